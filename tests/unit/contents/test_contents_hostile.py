"""Images that somebody has made to do harm, and archives that came in part."""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
from cove.contents import archive, layers
from cove.contents import image as images
from cove.contents.archive import Hostile
from cove.errors import CoveError
from hypothesis import given, settings
from hypothesis import strategies as st
from image_layers import FOLDER, Files, digest, gzipped, image, layer, link, manifest, names, read, saved

GOOD = layer({"node_modules/x/package.json": manifest("x", "1.0.0")})


def refused(*made: bytes) -> str:
    with pytest.raises(CoveError) as caught:
        read(*made)
    return caught.value.message


def test_the_compressed_zeros_of_a_bomb_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MAX_BYTES", 64 << 20)
    member = tarfile.TarInfo("zeros")
    member.size = 128 << 20
    packed = gzipped(member.tobuf() + bytes(4 << 20))
    # gzip streams may follow each other: 128 MiB in 128 KiB.
    blob = packed + gzipped(bytes(4 << 20)) * 31
    outer = layer({"blobs/sha256/a": blob})
    with pytest.raises(Hostile, match="more than 67108864 bytes"):
        images.read(image(b""), [outer], lambda done: None)


def test_files_and_packages_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    many = layer({f"{number}": "" for number in range(100)})
    monkeypatch.setattr(layers, "MAX_ENTRIES", 99)
    assert "more than 99 files" in refused(many)
    monkeypatch.setattr(layers, "MAX_ENTRIES", 1000)
    monkeypatch.setattr(layers, "MAX_FINDINGS", 50)
    assert "more than 50 packages" in refused(layer({f".wh.{number}": "" for number in range(51)}))
    stated = "".join(f"P:a{number}\nV:1\n\n" for number in range(60))
    assert "more than 50 packages" in refused(layer({"lib/apk/db/installed": stated}))


@pytest.mark.parametrize("name", ["../etc/passwd", "a/../../b", "/../x", "a/.."])
def test_paths_lead_nowhere_else(name: str) -> None:
    assert "leads out of it" in refused(layer({name: "x"}))


def test_links_lead_nowhere_else() -> None:
    path = "node_modules/x/package.json"
    assert names(read(layer([(path, link(path, "/etc/passwd"))]))) == []
    assert "leads out" in refused(layer([(path, link(path, "../../../etc/passwd", tarfile.LNKTYPE))]))


def test_a_path_has_an_end() -> None:
    assert names(read(layer({"/".join(["d" * 100] * 40) + "/x": ""}))) == []
    assert "a path of" in refused(layer({"/".join(["d" * 100] * 50): ""}))


def test_a_path_leads_through_a_number_of_folders() -> None:
    assert names(read(layer({"a/" * 255 + "x.jar": ""}))) == []
    assert "a path of 2000 folders" in refused(layer({"a/" * 1999 + "x.jar": ""}))


@pytest.mark.parametrize(
    "files",
    [
        {f"{number}.jar": "" for number in range(400)},
        {f"{number}/.wh.{'x' * 90}": "" for number in range(20)},
        {f"{number}/{'x' * 90}/.wh..wh..opq": "" for number in range(20)},
        {f"{number}{'x' * 90}.egg-info": FOLDER for number in range(20)},
        {"deep/" * 100 + "x.jar": ""},
        {"node_modules/x/package.json": manifest("x", "1" * 900, license="x" * 900)},
        {"lib/apk/db/installed": "F:" + "x" * 1800 + "/x.egg-info\nR:PKG-INFO\n"},
    ],
)
def test_the_characters_that_are_kept_are_counted(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MAX_CHARACTERS", 1700)
    assert "has more than 1700 characters" in refused(layer(files))


def test_what_is_known_of_deep_folders_is_small() -> None:
    made = layer({f"{number}/" + "a" * 10 + "/a" * 200 + "/x.jar": "" for number in range(500)})
    archived = saved([made])
    tracemalloc.start()
    try:
        images.read(image(made), [archived], lambda done: None)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 16 << 20  # the folders' paths, as text, are 25 MB and more


def test_an_absolute_path_is_one_of_the_image() -> None:
    assert names(read(layer({"//node_modules/./x/package.json": manifest("x", "1")}))) == ["x 1"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_that_is_longer_than_any_is_not_read(kind: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 3 << 30
    assert "a header of 3221225472 bytes" in refused(header.tobuf() + bytes(1 << 20))


def test_headers_of_headers_have_an_end() -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2
    one = header.tobuf() + b"a\0".ljust(512, b"\0")
    assert "headers without end" in refused(one * 5000)


def test_global_headers_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_GLOBAL_FIELDS", 10)
    output = io.BytesIO()
    fields = {f"field{number}": "x" for number in range(11)}
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT, pax_headers=fields) as tar:
        tar.addfile(tarfile.TarInfo("x"))
    assert "too many global headers" in refused(output.getvalue())


def test_maps_of_holes_have_no_end_and_are_refused() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("GNUSparseFile.1/x")
        member.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "x",
            "GNU.sparse.realsize": "9",
        }
        member.size = 512
        tar.addfile(member, io.BytesIO(b"1\n0\n0\n".ljust(512, b"\0")))
    assert "with holes" in refused(packed.getvalue())
    old = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    old[156:157], old[482:483] = tarfile.GNUTYPE_SPARSE, b"\1"
    old[148:156] = b" " * 8
    old[148:156] = b"%06o\0 " % sum(old)
    assert "with holes" in refused(bytes(old) + bytes(1024))


@pytest.mark.parametrize("size", ["-1024", "-1", "99999999999999999999", "x"])
def test_a_size_that_is_none_is_an_error_or_that_of_an_archive_that_ends_early(size: str) -> None:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("node_modules/x/package.json")
        member.pax_headers = {"size": size}
        tar.addfile(member)
    made = output.getvalue() + GOOD
    try:
        found = read(made)
    except CoveError:
        return
    assert names(found) == []


def test_a_size_that_is_told_in_another_field_is_an_end_as_well() -> None:
    sparse = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    sparse[156:157] = tarfile.GNUTYPE_SPARSE
    sparse[124:136] = b"\x80" + b"\x7f" * 11
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    assert "ends in the middle of a file" in refused(bytes(sparse) + bytes(5000))


def test_a_wrong_header_in_the_middle_is_not_the_end() -> None:
    whole = layer({"first": "x", "node_modules/x/package.json": manifest("x", "1"), "last": "y"})
    damaged = whole[:1024] + b"damaged!" + whole[1032:]
    assert digest(damaged) in refused(damaged)


def test_a_layer_that_is_not_what_its_image_says_is_told() -> None:
    with pytest.raises(CoveError, match="lacks the layer sha256:"):
        images.read(image(layer({"other": ""})), [saved([GOOD])], lambda done: None)


def test_the_memory_that_decompressing_takes_is_bounded() -> None:
    def asking(data: bytes) -> bytes:
        packed = bytearray(lzma.compress(data, preset=0))
        size = (packed[12] + 1) * 4  # of the block's header, behind that of the stream, with its sum at its end
        packed[packed.index(b"\x21\x01", 12) + 2] = 38  # 2 GiB
        packed[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(packed[12 : 12 + size - 4]))
        return bytes(packed)

    with pytest.raises(CoveError, match=r"lacks the layer.*[Mm]emory"):
        read(GOOD, packed=asking)
    assert names(read(GOOD, packed=lambda data: lzma.compress(data, preset=9))) == ["x 1.0.0"]


@pytest.mark.parametrize("cut", [1, 30, 100])
def test_an_xz_stream_that_ends_early_is_told(cut: int) -> None:
    with pytest.raises(CoveError, match="lacks the layer"):
        read(GOOD, packed=lambda data: lzma.compress(data)[:-cut])


@pytest.mark.parametrize("part", [0, 100, 600, 2600])
def test_an_archive_that_ends_early_is_told(part: int) -> None:
    whole = saved([GOOD], gzipped)
    with pytest.raises(CoveError, match="lacks the layer"):
        images.read(image(GOOD), [whole[:part]], lambda done: None)


def test_damage_within_compressed_layers_is_told() -> None:
    def flipped(data: bytes) -> bytes:
        packed = bytearray(gzipped(data))
        packed[len(packed) // 2] ^= 0xFF
        return bytes(packed)

    with pytest.raises(CoveError, match="lacks the layer"):
        read(GOOD, packed=flipped)


def test_what_else_is_in_the_archive_is_passed_over() -> None:
    outer = layer({"README": "text", "empty": "", "blobs/x": b"\x1f\x8bno gzip", "y": b"\0" * 512, "blobs/z": GOOD})
    found = images.read(image(GOOD), [outer], lambda done: None)
    assert names(found) == ["x 1.0.0"]


@settings(deadline=None)
@given(st.binary(max_size=4000), st.integers(0, 6000))
def test_any_bytes_are_an_archive_or_an_error(noise: bytes, at: int) -> None:
    whole = saved([GOOD], gzipped)

    def pieces() -> Iterator[bytes]:
        yield whole[:at]
        yield noise
        yield whole[at + len(noise) :]

    try:
        found = images.read(image(GOOD), pieces(), lambda done: None)
    except CoveError:
        return
    assert names(found) == ["x 1.0.0"]


@settings(deadline=None)
@given(st.binary(max_size=3000), st.integers(0, len(GOOD)))
def test_any_layer_is_read_or_refused(noise: bytes, at: int) -> None:
    made = GOOD[:at] + noise + GOOD[at + len(noise) :]
    try:
        read(made)
    except CoveError:
        return
