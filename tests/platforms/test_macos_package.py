"""The macOS package taken apart again by others' programs and by a reader of its bill of materials. No Mac has seen it."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

import pytest


@pytest.fixture(scope="module", params=["arm64", "x86_64"])
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def package(installers: Path, machine: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpacked, its files in `payload`."""
    folder = tmp_path_factory.mktemp("pkg")
    (made,) = installers.glob(f"*-macos-{machine}.pkg")
    run("bsdtar", "-xf", made, "-C", folder)
    (folder / "payload").mkdir()
    run("bsdtar", "-xf", folder / "cove.pkg/Payload", "-C", folder / "payload")
    return folder


def test_the_bill_of_materials_has_exactly_the_files(package: Path) -> None:
    root = package / "payload"
    told = dict(bill_of_materials((package / "cove.pkg/Bom").read_bytes()))
    laid = {".": root} | {f"./{path.relative_to(root).as_posix()}": path for path in root.rglob("*")}
    assert told.keys() == laid.keys()
    for name, path in laid.items():
        assert told[name][0] == path.lstat().st_mode, name
        assert told[name][1] == (path.lstat().st_size if path.is_file() else 0), name
    for name in ("./usr/local/bin/cove", "./usr/local/lib/cove/site/cove/cli/main.py"):
        assert told[name][2] == int(run("cksum", laid[name]).split()[0])


def test_its_descriptions_agree(package: Path, machine: str) -> None:
    distribution = ElementTree.parse(package / "Distribution").getroot()
    assert distribution.find("options").get("hostArchitectures") == machine  # type: ignore[union-attr]
    info = ElementTree.parse(package / "cove.pkg/PackageInfo").getroot()
    assert {each.get("id") for each in distribution.iter("pkg-ref")} == {info.get("identifier")}
    assert info.get("version") == "0.1.0"
    files = sum(1 for _ in (package / "payload").rglob("*")) + 1
    assert info.find("payload").get("numberOfFiles") == str(files)  # type: ignore[union-attr]


def test_it_has_cove_its_modules_for_macs_and_a_launcher(package: Path, machine: str) -> None:
    site = package / "payload/usr/local/lib/cove/site"
    assert (site / "cove/image/recipe/lock-arm64.json").is_file()
    assert (site / "coved/__main__.py").is_file()
    assert {path.name for path in site.glob("_cffi_backend.*")} == {
        f"_cffi_backend.cpython-3{minor}-darwin.so" for minor in (11, 12, 13, 14)
    }
    assert all(machine in machines(path) for path in site.rglob("*.so"))
    launcher = package / "payload/usr/local/bin/cove"
    run("sh", "-n", launcher)
    assert launcher.stat().st_mode & 0o777 == 0o755
    # This computer has no Python in a Mac's places.
    done = subprocess.run(["sh", launcher], capture_output=True, text=True, timeout=60)
    assert done.returncode == 125 or Path("/usr/local/bin/python3.11").exists()


def test_the_formula_names_the_archives(installers: Path) -> None:
    formula = (installers / "homebrew/cove.rb").read_text()
    for block, machine in (("on_arm", "arm64"), ("on_intel", "x86_64")):
        (archive,) = installers.glob(f"*-macos-{machine}.tar.gz")
        told = re.search(rf'^  {block} do\n    url "(.*)"\n    sha256 "(.*)"\n  end$', formula, re.MULTILINE)
        assert told
        assert told[1].endswith(f"/0.1.0/{archive.name}")
        assert told[2] == sha256(archive.read_bytes()).hexdigest()
        assert "cove-0.1.0/cove/__main__.py" in run("bsdtar", "-tf", archive).splitlines()
    assert "@" not in formula.replace("python@3.13", "")


def machines(path: Path) -> set[str]:
    """For which a library is: Mach-O of one, or a universal file of several (mach-o/fat.h)."""
    names = {0x01000007: "x86_64", 0x0100000C: "arm64"}
    content = path.read_bytes()
    if content[:4] == b"\xca\xfe\xba\xbe":
        (count,) = struct.unpack_from(">I", content, 4)
        return {names[struct.unpack_from(">I", content, 8 + 20 * each)[0]] for each in range(count)}
    return {names[struct.unpack_from("<I", content, 4)[0]]}


def bill_of_materials(content: bytes) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Name -> mode, size, checksum."""
    magic, _, _, table, _, variables, _ = struct.unpack_from(">8sIIIIII", content)
    assert magic == b"BOMStore"

    def block(number: int) -> bytes:
        address, length = struct.unpack_from(">II", content, table + 4 + 8 * number)
        return content[address : address + length]

    named, at = {}, variables + 4
    for _ in range(struct.unpack_from(">I", content, variables)[0]):
        number, length = struct.unpack_from(">IB", content, at)
        named[content[at + 5 : at + 5 + length].decode()] = number
        at += 5 + length
    assert named.keys() == {"BomInfo", "Paths", "HLIndex", "VIndex", "Size64"}
    kind, _, child, _, count, _ = struct.unpack(">4sIIIIB", block(named["Paths"]))
    assert kind == b"tree"
    leaf = block(child)
    while not struct.unpack_from(">H", leaf)[0]:
        leaf = block(struct.unpack_from(">I", leaf, 12)[0])
    names: dict[int, str] = {}
    while True:
        _, pairs, following, _ = struct.unpack_from(">HHII", leaf)
        for pair in range(pairs):
            info, file = struct.unpack_from(">II", leaf, 12 + 8 * pair)
            number, known = struct.unpack(">II", block(info))
            parent, name = struct.unpack(">I", block(file)[:4])[0], block(file)[4:-1].decode()
            names[number] = f"{names[parent]}/{name}" if parent else name
            _, _, _, mode, _, _, _, size, _, checksum, _ = struct.unpack_from(">BBHHIIIIBII", block(known))
            yield names[number], (mode, size, checksum)
        if not following:
            break
        leaf = block(following)
    assert len(names) == count


def run(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
