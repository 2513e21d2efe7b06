"""The disk that UEFI boots: its formats read back as their specifications say, and by QEMU where that knows them."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import struct
import subprocess
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cove.image import bootdisk, fat, gpt, pe, vhdx
from cove.image.inputs import recipe_dir
from cove.image.recipe import Recipe, load_lock
from cove.image.tree import Tree, file
from debian_mirror import efi_stub


def sections_of(program: bytes) -> dict[str, tuple[int, bytes]]:
    """Address and content of each section."""
    (coff,) = struct.unpack_from("<I", program, 0x3C)
    count, size = struct.unpack_from("<H", program, coff + 6)[0], struct.unpack_from("<H", program, coff + 20)[0]
    found = {}
    for index in range(count):
        name, length, address, stored, place = struct.unpack_from("<8sIIII", program, coff + 24 + size + index * 40)
        assert place % 512 == 0 and stored % 512 == 0 and place + stored <= len(program)
        found[name.rstrip(b"\0").decode()] = (address, program[place : place + stored][:length])
    return found


def test_sections_lie_behind_those_of_the_program() -> None:
    added = {".osrel": b"ID=cove\n", ".initrd": b"i" * 5000, ".linux": b"l" * 512}
    program = pe.with_sections(efi_stub(b""), added)
    found = sections_of(program)
    assert {name: content for name, (_, content) in found.items() if name != ".text"} == added
    assert [address for address, _ in found.values()] == [0x1000, 0x3000, 0x4000, 0x6000]
    assert struct.unpack_from("<I", program, 0x80 + 24 + 56)[0] == 0x7000
    assert found[".text"][1] == b"\xcc" * 0x1234


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"", "ends within"),
        (b"MZ" + bytes(200), "no EFI program"),
        (b"\x7fELF" + efi_stub(b"")[4:], "no EFI program"),
        (efi_stub(b"", sections=15), "no room"),
    ],
)
def test_what_is_no_program_with_room_is_refused(program: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pe.with_sections(program, {".linux": b"x"})


def fat_file(volume: bytes, path: tuple[str, ...]) -> bytes:
    """A file of a FAT32 volume, read as the specification tells."""
    sector, per_cluster, reserved, tables = struct.unpack_from("<HBHB", volume, 11)
    sectors, table_sectors = struct.unpack_from("<II", volume, 32)
    assert volume[510:512] == b"\x55\xaa" and sectors * sector == len(volume)
    table_at, data_at = reserved * sector, (reserved + tables * table_sectors) * sector
    clusters = (sectors - reserved - tables * table_sectors) // per_cluster
    assert clusters >= 65525 and (clusters + 2) * 4 <= table_sectors * sector
    assert volume[table_at : table_at + table_sectors * sector] == volume[table_at + table_sectors * sector : data_at]

    def chain(cluster: int) -> bytes:
        content = []
        while 2 <= cluster < 0x0FFFFFF8:
            start = data_at + (cluster - 2) * sector * per_cluster
            content.append(volume[start : start + sector * per_cluster])
            (cluster,) = struct.unpack_from("<I", volume, table_at + 4 * cluster)
        return b"".join(content)

    cluster, size = struct.unpack_from("<I", volume, 44)[0], None
    for name in path:
        entries = chain(cluster)
        stem, _, extension = name.partition(".")
        short = (stem.ljust(8) + extension.ljust(3)).encode()
        (place,) = (at for at in range(0, len(entries), 32) if entries[at : at + 11] == short)
        high, low, size = (
            *struct.unpack_from("<H", entries, place + 20),
            *struct.unpack_from("<HI", entries, place + 26),
        )
        cluster = high << 16 | low
    return chain(cluster)[:size]


@pytest.mark.parametrize("size", [0, 1, 512, 100_000, 40 << 20])
def test_a_file_is_found_on_its_volume(size: int) -> None:
    content = b"0123456789abcde" * (size // 15) + b"x" * (size % 15)
    path = ("EFI", "BOOT", "BOOTX64.EFI")
    assert fat_file(fat.volume(path, content, "COVE"), path) == content


def test_long_names_are_refused() -> None:
    with pytest.raises(ValueError, match="short name"):
        fat.volume(("EFI", "kernel.efi"), b"", "COVE")


def test_a_partition_table_and_its_copy_say_the_same() -> None:
    identity = uuid.uuid4()
    parts = [
        gpt.Partition("cove-boot", gpt.EFI_SYSTEM, uuid.uuid4(), 5 << 20),
        gpt.Partition("cove-system", gpt.LINUX, uuid.uuid4(), (3 << 20) + 4096),
    ]
    made = gpt.layout(identity, parts)
    assert made.places == (1 << 20, 6 << 20) and made.size == 11 << 20
    disk = made.head + bytes(made.size - len(made.head) - len(made.tail)) + made.tail
    last = len(disk) // 512 - 1
    assert disk[450] == 0xEE and disk[510:512] == b"\x55\xaa"
    tables = []
    for here, other in ((1, last), (last, 1)):
        header = disk[here * 512 :][:92]
        signature, _, size, checksum, _, my, alternate, first, end, disk_id, table, count, entry, table_checksum = (
            struct.unpack("<8sIIIIQQQQ16sQIII", header)
        )
        assert (signature, size, my, alternate, disk_id) == (b"EFI PART", 92, here, other, identity.bytes_le)
        assert zlib.crc32(header[:16] + bytes(4) + header[20:]) == checksum
        entries = disk[table * 512 :][: count * entry]
        assert zlib.crc32(entries) == table_checksum
        assert first == 34 and end == last - 33
        tables.append(entries)
    assert tables[0] == tables[1]
    for index, (part, place) in enumerate(zip(parts, made.places, strict=True)):
        kind, own, begin, until, _, name = struct.unpack_from("<16s16sQQQ72s", tables[0], 128 * index)
        assert (kind, own) == (part.kind.bytes_le, part.identity.bytes_le)
        assert (begin * 512, (until + 1) * 512) == (place, place + part.size)
        assert name.decode("utf-16-le").rstrip("\0") == part.name


def test_checksums_of_vhdx_are_crc32c() -> None:
    assert vhdx._crc32c(b"123456789") == 0xE3069283  # the check value of the polynomial's catalogue


def blocks_of(disk: bytes) -> list[bytes]:
    return [disk[start : start + vhdx.BLOCK] for start in range(0, len(disk), vhdx.BLOCK)]


@pytest.mark.parametrize("size", [512, 1 << 20, (5 << 20) + 512, (4097 << 20) + 1024])
def test_qemu_reads_a_vhdx_as_the_disk_that_it_was(tmp_path: Path, size: int) -> None:
    """The last is longer than what one block of marks would be for, whose place in the table is left free."""
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.vhdx"
    with raw.open("wb") as output:
        output.write(b"begin")
        output.seek(size - 3)
        output.write(b"end")

    def blocks() -> Iterator[bytes]:
        nothing = bytes(vhdx.BLOCK)
        count = -(-size // vhdx.BLOCK)
        for index in range(count):
            block = nothing[: min(vhdx.BLOCK, size - index * vhdx.BLOCK)]
            block = b"begin" + block[5:] if index == 0 else block
            yield block[:-3] + b"end" if index == count - 1 else block

    with path.open("wb") as output:
        vhdx.write(blocks(), size, output)
    info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", path], timeout=60))
    assert (info["format"], info["virtual-size"]) == ("vhdx", size)
    subprocess.run(["qemu-img", "check", "-f", "vhdx", path], check=True, capture_output=True, timeout=60)
    part = tmp_path / "part"
    # qemu-img counts from the disk's beginning, whatever it skips.
    for start, count in ((0, ["count=1"]), (-(-size // vhdx.BLOCK) - 1, [])):
        words = ["-f", "vhdx", "-O", "raw", f"bs={vhdx.BLOCK}", f"skip={start}", *count, f"if={path}", f"of={part}"]
        subprocess.run(["qemu-img", "dd", *words], check=True, capture_output=True, timeout=60)
        with raw.open("rb") as source:
            source.seek(start * vhdx.BLOCK)
            assert part.read_bytes() == source.read(vhdx.BLOCK)
    assert path.stat().st_size <= 6 << 20


@pytest.mark.parametrize("size", [1 << 20, (60 << 30) + 512])
def test_a_vhdx_says_how_large_its_disk_is(tmp_path: Path, size: int) -> None:
    ours, another = io.BytesIO(), tmp_path / "disk.vhdx"
    vhdx.write((), size, ours)
    ours.seek(0)
    assert vhdx.virtual_size(ours) == size
    subprocess.run(["qemu-img", "create", "-q", "-f", "vhdx", another, str(size)], check=True, timeout=60)
    with another.open("r+b") as file:
        assert vhdx.virtual_size(file) == size
        file.seek(192 << 10)
        file.write(b"damaged!")
        file.seek(0)
        assert vhdx.virtual_size(file) == size  # by the second table


@pytest.mark.parametrize("content", [b"", b"QFI\xfb" + bytes(1 << 20), b"vhdxfile", b"vhdxfile" + bytes(1 << 20)])
def test_what_is_no_vhdx_has_no_size(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"VHDX|cut off|damaged"):
        vhdx.virtual_size(io.BytesIO(content))


def test_one_disk_gives_one_vhdx() -> None:
    written = []
    for content in (b"a", b"a", b"b"):
        output = io.BytesIO()
        vhdx.write(blocks_of(content.ljust(1 << 20, b"\0")), 1 << 20, output)
        written.append(output.getvalue())
    assert written[0] == written[1] != written[2]
    assert written[0][2 << 20 :][:65600] != written[2][2 << 20 :][:65600]  # another identity


def test_modules_come_in_an_order_in_which_they_can_be_loaded() -> None:
    system = Tree()
    root = "usr/lib/modules/6.12"
    lines = ["kernel/hv_vmbus.ko:", "kernel/hv-storvsc.ko: kernel/fc.ko kernel/hv_vmbus.ko", "kernel/fc.ko:"]
    for line in lines:
        path = line.partition(":")[0]
        system.add(f"{root}/{path}", file(path.encode()))
    system.add(f"{root}/modules.dep", file("\n".join(lines).encode()))
    content = gzip.decompress(bootdisk.more_modules(system, ("hv_storvsc", "hv_vmbus", "built_in")))
    assert b"/modules.d/hv_vmbus.ko\n/modules.d/fc.ko\n/modules.d/hv-storvsc.ko\n" in content
    assert content.count(b"070701") == 6  # a folder, three modules, their list, the end


def test_the_recipe_knows_the_disks_modules_and_pins_its_stub() -> None:
    recipe = Recipe.load(recipe_dir(), bootdisk.ARCHITECTURE)
    assert set(recipe.boot_disk.modules) <= set(recipe.modules["others"])
    (package,) = load_lock(recipe.directory / bootdisk.LOCK)
    assert package.name == recipe.boot_disk.package and len(package.sha256) == 64
    assert package.name not in {one.name for one in load_lock(recipe.lock)}


def test_a_disk_is_made_anew_when_its_own_part_of_the_recipe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = shutil.copytree(recipe_dir(), tmp_path / "recipe")
    monkeypatch.setattr(bootdisk.inputs, "recipe_dir", lambda: recipe)
    text, names = (recipe / "recipe.toml").read_text(), [bootdisk.name()]
    (recipe / "recipe.toml").write_text(text.replace("cove.network=dhcp", "cove.network=dhcp quiet"))
    names.append(bootdisk.name())
    (recipe / "recipe.toml").write_text(text.replace('"hv_utils", ', ""))
    names.append(bootdisk.name())
    (recipe / "recipe.toml").write_text(text)
    assert bootdisk.name() == names[0]
    (recipe / bootdisk.LOCK).write_bytes(b"[]")
    names.append(bootdisk.name())
    assert len(set(names)) == 4
