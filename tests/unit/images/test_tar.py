import io
import tarfile
import tracemalloc

import pytest
from coved.images.tar import BadArchive, Entry, TarReader


def archive(format: int, *members: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return buffer.getvalue()


def member(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def entries(data: bytes) -> list[Entry]:
    return list(TarReader(io.BytesIO(data)))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_formats(format: int) -> None:
    long = "d" * 90 + "/" + "n" * 90
    found = entries(
        archive(
            format,
            member(long, size=3, mode=0o640, uid=1000, gid=2000, mtime=1_700_000_000),
            member("link", type=tarfile.SYMTYPE, linkname="target"),
            member("dev", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
        )
    )
    first = found[0]
    assert (first.name, first.size, first.mode, first.uid, first.gid) == (long, 3, 0o640, 1000, 2000)
    assert first.mtime_ns == 1_700_000_000 * 10**9
    assert (found[1].type, found[1].link) == ("2", "target")
    assert found[2].device == (1, 3)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_ustar_cannot_say(format: int) -> None:
    name, link = "n" * 200 + "/" + "n" * 200, "ümlaut/" + "l" * 300
    found = entries(archive(format, member(name, type=tarfile.SYMTYPE, linkname=link, uid=3_000_000_000)))
    assert (found[0].name, found[0].link, found[0].uid) == (name, link, 3_000_000_000)


def test_times_before_the_epoch_and_fractions() -> None:
    found = entries(
        archive(
            tarfile.PAX_FORMAT, member("a", pax_headers={"mtime": "-1.5"}), member("b", pax_headers={"mtime": "1.25"})
        )
    )
    assert [entry.mtime_ns for entry in found] == [-1_500_000_000, 1_250_000_000]


def test_content_and_skipping() -> None:
    data = archive(tarfile.USTAR_FORMAT, member("a", size=1000), member("b", size=3))
    reader = TarReader(io.BytesIO(data))
    names = []
    for entry in reader:
        names.append(entry.name)
        if entry.name == "a":
            assert reader.read(10) == b"x" * 10
    assert names == ["a", "b"]


@pytest.mark.parametrize("cut", [512 + 600, 512 + 700, 512 + 1024])
def test_what_fills_the_last_block_may_be_missing(cut: int) -> None:
    """As Go's archive/tar has it; docker's client leaves it out."""
    data = archive(tarfile.USTAR_FORMAT, member("a", size=600))[:cut]
    assert [entry.name for entry in TarReader(io.BytesIO(data), ends_anyhow=True)] == ["a"]
    if cut % 512:
        with pytest.raises(BadArchive, match="ends too early"):
            entries(data)


@pytest.mark.parametrize("cut", [100, 512, 700, 1024, 512 + 599])
def test_an_archive_that_ends_early(cut: int) -> None:
    data = archive(tarfile.USTAR_FORMAT, member("a", size=600))[:cut]
    with pytest.raises(BadArchive):
        entries(data)


def test_a_giant_extended_header_does_not_cost_memory() -> None:
    header = bytearray(archive(tarfile.USTAR_FORMAT, member("x", type=b"x"))[:512])
    header[124:136] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)

    class Endless(io.RawIOBase):
        sent = 0

        def read(self, size: int = -1, /) -> bytes:
            self.sent += size
            return bytes(header) if self.sent == size else bytes(size)

    tracemalloc.start()
    with pytest.raises(BadArchive, match="too large"):
        list(TarReader(Endless()))  # type: ignore[arg-type]
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("kind", [b"x", b"g"])
def test_many_extended_headers_cost_no_more_than_one(kind: bytes) -> None:
    def records(number: int) -> bytes:
        key = f"comment{number}".encode() + b"k" * 400_000
        length = len(key) + len(b" =v\n") + 6
        return b"%d %s=v\n" % (length, key)

    def header(number: int) -> bytes:
        content = records(number)
        info = tarfile.TarInfo("pax")
        info.type, info.size = kind, len(content)
        return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)

    with pytest.raises(BadArchive, match="more than 1 MiB"):
        entries(b"".join(header(number) for number in range(5)) + archive(tarfile.USTAR_FORMAT, member("file")))


@pytest.mark.parametrize(
    "headers", [{"uid": "-1"}, {"uid": "99999999999999999999"}, {"size": "x"}, {"GNU.sparse.major": "1"}]
)
def test_impossible_values(headers: dict[str, str]) -> None:
    with pytest.raises(BadArchive):
        entries(archive(tarfile.PAX_FORMAT, member("a", pax_headers=headers)))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "d/" * 2047 + "a", None),
        ("name", "d/" * 2048, "path in the archive is longer"),
        ("name", "\u00fc" * 127, None),
        ("name", "a/" + "\u00fc" * 128, "name in the archive is longer"),
        ("linkname", "l" * 4095, None),
        ("linkname", "l" * 4096, "path in the archive is longer"),
    ],
)
def test_names_are_no_longer_than_a_files(field: str, value: str, words: str | None) -> None:
    info = member("x", type=tarfile.SYMTYPE, linkname="y")
    setattr(info, field, value)
    data = archive(tarfile.PAX_FORMAT, info)
    if words is None:
        assert len(entries(data)) == 1
        return
    with pytest.raises(BadArchive, match=words):
        entries(data)
