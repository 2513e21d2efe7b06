"""Copying between a container and this system: the names of both ends, the archive, and what hostile ones may not do."""

from __future__ import annotations

import base64
import io
import json
import os
import posixpath
import socketserver
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cove.cli import main as cli
from cove.cli.cp import command as copy
from cove.cli.cp import pack, paths, tarball
from cove.cli.cp.paths import CONTAINER, LOCAL, Place, Rules, arrange
from cove.cli.cp.tarball import BadArchive, Entry, TarReader
from cove.cli.cp.unpack import Unpacker
from cove.cli.errors import CliError
from cove.cli.quoting import quoted

RULES = Rules(posixpath)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("c:/etc", ("c", "/etc")),
        ("c:", ("c", "")),
        ("c:a:b", ("c", "a:b")),
        ("/a:b", ("", "/a:b")),
        ("./a:b", ("", "./a:b")),
        ("../a:b", ("", "../a:b")),
        (".a:b", ("", ".a:b")),
        (":/x", ("", "/x")),
        ("-", ("", "-")),
    ],
)
def test_which_end_is_the_container(argument: str, expected: tuple[str, str]) -> None:
    assert copy.split_argument(argument) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b", ("/a", "b")),
        ("/a/b/", ("/a", "b")),
        ("/a/b/.", ("/a/b", ".")),
        ("/a/./b/..", ("/", "a")),
        ("a", (".", "a")),
        (".", (".", ".")),
        ("", (".", ".")),
        ("/", ("/", "/")),
        ("/.", ("/", ".")),
        ("//a", ("/", "a")),
    ],
)
def test_directory_and_name(path: str, expected: tuple[str, str]) -> None:
    assert RULES.split(path) == expected


@pytest.mark.parametrize(
    ("cleaned", "original", "expected"),
    [
        ("/a", "a/", "/a/"),
        ("/a", "a/.", "/a/."),
        ("/a", "a", "/a"),
        ("/", "/", "/"),
        ("/", "/.", "/."),
        ("/w", ".", "/w/."),
        ("/w", "a/..", "/w"),
    ],
)
def test_an_ending_is_kept(cleaned: str, original: str, expected: str) -> None:
    assert RULES.keep_ending(cleaned, original) == expected


FILE, FOLDER = Place("/s/f", True), Place("/s/d", True, True)


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        (FILE, Place("/d", True, True), ("/d", "", "")),
        (FILE, Place("/d/g", True), ("/d", "f", "g")),
        (FILE, Place("/d/new"), ("/d", "f", "new")),
        (FOLDER, Place("/d/new/"), ("/d", "d", "new")),
        (Place("/s/d/.", True, True), Place("/d/new"), ("/d", ".", "new")),
        (Place("/real/x", True, False, "link"), Place("/d/new"), ("/d", "link", "new")),
        (FOLDER, Place("/d/g", True), "cannot copy directory"),
        (FILE, Place("/d/new/"), "no such directory"),
        (FILE, Place("/d/new/."), "no such directory"),
    ],
)
def test_where_an_archive_goes_and_by_which_name(source: Place, destination: Place, expected: Any) -> None:
    if isinstance(expected, str):
        with pytest.raises(CliError, match=expected):
            arrange(source, destination, CONTAINER)
    else:
        assert arrange(source, destination, CONTAINER) == expected


def test_local_ends_follow_links_as_docker_does(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "to_dir").symlink_to("dir")
    (tmp_path / "to_file").symlink_to("file")
    (tmp_path / "to_nothing").symlink_to("new")
    (tmp_path / "to_far").symlink_to("no/where")
    (tmp_path / "loop").symlink_to("loop")
    root = str(tmp_path)
    destination, source = paths.local_destination, paths.local_source
    assert destination(f"{root}/to_dir") == Place(f"{root}/dir", True, True)
    assert destination(f"{root}/to_nothing") == Place(f"{root}/new")
    for path, message in (("to_far", "stat .*/no: no such file"), ("loop", "too many symlinks in .*/loop")):
        with pytest.raises(CliError, match=message):
            destination(f"{root}/{path}")
    assert source(f"{root}/to_dir", follow=False) == Place(f"{root}/to_dir", True)
    assert source(f"{root}/to_dir", follow=True) == Place(f"{root}/dir", True, True, "to_dir")
    assert source(f"{root}/to_dir/", follow=False) == Place(f"{root}/dir/", True, True, "to_dir")
    assert source(f"{root}/to_dir/.", follow=False) == Place(f"{root}/dir/.", True, True)
    assert source(f"{root}/to_file", follow=True).rename == "to_file"
    for path, follow, message in (
        ("nosuch", False, "^lstat .*/nosuch: no such file or directory$"),
        ("loop", True, "too many links"),
        ("file/", False, "^not a directory$"),
        ("file/.", True, "^not a directory$"),
        ("file/x", False, "^not a directory$"),
    ):
        with pytest.raises(CliError, match=message):
            source(f"{root}/{path}", follow=follow)


def test_outputs_that_docker_refuses(tmp_path: Path) -> None:
    paths.check_output(str(tmp_path / "new"))
    paths.check_output(f"{tmp_path}/new/")
    with pytest.raises(CliError, match=r'^invalid output path: directory ".*/no" does not exist$'):
        paths.check_output(str(tmp_path / "no/such"))
    with pytest.raises(CliError, match=r'"/dev/null" must be a directory or a regular file: got a device$'):
        paths.check_output("/dev/null")


# --- archives ---


def archive(*members: tuple[str, bytes, dict[str, Any]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of (name, content or b"", attributes of the header)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as writer:
        for name, content, attributes in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in attributes.items():
                setattr(member, key, value)
            writer.addfile(member, io.BytesIO(content))
    return out.getvalue()


def members_of(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return opened.getmembers()


def names_in(data: bytes) -> list[str]:
    return [member.name for member in members_of(data)]


def pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


LINK, HARD, DIR, FIFO = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE


def directory(name: str, mode: int = 0o755, mtime: float = 0) -> tuple[str, bytes, dict[str, Any]]:
    return name, b"", {"type": DIR, "mode": mode, "mtime": mtime}


def file(name: str, content: bytes = b"x", **attributes: Any) -> tuple[str, bytes, dict[str, Any]]:
    return name, content, attributes


def link(name: str, target: str, kind: bytes = LINK) -> tuple[str, bytes, dict[str, Any]]:
    return name, b"", {"type": kind, "linkname": target}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("size", [1, 511, 512, 513, 1 << 20])
def test_archives_of_every_format_are_read(form: int, size: int) -> None:
    long = "d" * 60 + "/" + "f" * 90
    members = [
        directory("d"),
        file("d/a", b"a" * 1300, mode=0o4755, mtime=77),
        link("l", "d/a"),
        file(long, b"y" * 512),
    ]
    if form != tarfile.USTAR_FORMAT:
        members += [file("n" * 300, b""), link("far", "t" * 200), file("é", b"z")]
    reader = TarReader(pieces(archive(*members, form=form), size))
    found = [(entry.name, entry.type, entry.mode, entry.link, b"".join(reader.content())) for entry in reader]
    assert found[:4] == [
        ("d", "5", 0o755, "", b""),
        ("d/a", "0", 0o4755, "", b"a" * 1300),
        ("l", "2", 0o644, "d/a", b""),
        (long, "0", 0o644, "", b"y" * 512),
    ]
    if form != tarfile.USTAR_FORMAT:
        assert [(one[0], one[3]) for one in found[4:]] == [("n" * 300, ""), ("far", "t" * 200), ("é", "")]


def test_content_that_nobody_wants_is_passed_over() -> None:
    reader = TarReader(pieces(archive(file("a", b"1" * 5000), file("b", b"2"))))
    assert [entry.name for entry in reader] == ["a", "b"]


def block(name: bytes, kind: bytes, size: bytes = b"00000000000") -> bytes:
    head = bytearray(512)
    head[: len(name)] = name
    head[100:108] = b"0000644\0"
    head[124 : 124 + len(size)] = size
    head[156:157] = kind
    head[257:265] = b"ustar\x0000"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def extended(records: bytes) -> bytes:
    return block(b"x", b"x", b"%011o" % len(records)) + records + bytes(-len(records) % 512)


PLAIN = archive(file("a", b"x" * 600))
BROKEN = {
    "cut in a header": (PLAIN[:300], "unexpected EOF"),
    "cut in the content": (PLAIN[:700], "unexpected EOF"),
    "cut in the padding": (PLAIN[:1200] + b"", "unexpected EOF"),
    "a wrong checksum": (b"b" + PLAIN[1:], "invalid tar header"),
    "text": (b"HTTP/1.1 500 Internal Server Error" * 40, "invalid tar header"),
    "a broken header after a good one": (PLAIN[:1536] + b"?" * 512, "invalid tar header"),
    "a negative size": (block(b"a", b"0", b"\xff" * 12), "invalid tar header"),
    "a negative extended size": (block(b"a", b"x", b"\xff" * 12), "invalid tar header"),
    "an extended header of 2 MiB": (block(b"a", b"x", b"%011o" % (2 << 20)) + bytes(2 << 20), "too long"),
    "a long name of 8 GiB": (block(b"a", b"L", b"77777777777"), "too long"),
    "extended headers without end": ((extended(b"9 path=a\n") * 100_000), "too long"),
    "an extended header and no entry": (extended(b"9 path=a\n"), "unexpected EOF"),
    "a record with a wrong length": (extended(b"99 path=a\n"), "invalid tar header"),
    "a record of no length": (extended(b"0 path=a\n"), "invalid tar header"),
    "a record that is text": (extended(b"path=a\n"), "invalid tar header"),
    "a size that is no number": (extended(b"11 size=-1\n") + block(b"a", b"0"), "invalid tar header"),
    "a time that is no number": (extended(b"13 mtime=nan\n") + block(b"a", b"0"), "invalid tar header"),
    "a NUL in a name": (extended(b"12 path=a\0bc\n") + block(b"a", b"0"), "invalid tar header"),
    "a sparse file": (extended(b"22 GNU.sparse.major=1\n") + block(b"a", b"0"), "invalid tar header"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_archive_is_refused_and_is_no_end(what: str) -> None:
    data, message = BROKEN[what]
    reader = TarReader(pieces(data, 4096))
    with pytest.raises(BadArchive, match=message):
        for _ in reader:
            for _ in reader.content():
                pass


def test_an_archive_without_its_end_mark_is_whole() -> None:
    assert [entry.name for entry in TarReader([PLAIN[:1536]])] == ["a"]
    assert list(TarReader([])) == []


@pytest.mark.parametrize(
    "entry",
    [
        Entry("a", "0", 0o4755, size=0, uid=7, gid=8, mtime=12 * 10**9),
        Entry("d" * 99, "5"),
        Entry("d" * 100, "5"),
        Entry("p/" * 60 + "name", "0"),
        Entry("n" * 101, "0"),
        Entry("é\udcff", "0"),
        Entry("l", "2", link="t" * 101),
        Entry("big", "0", size=9 << 30, uid=3_000_000, gid=4_000_000, mtime=-5 * 10**9),
        Entry("null", "3", device=(1, 3)),
        Entry("cap", "0", capability=b"\x01\x00\x00\x02=\n\x00" + bytes(13)),
    ],
)
def test_what_is_written_is_read_by_others_and_by_us(entry: Entry) -> None:
    data = tarball.header(entry)
    assert len(data) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(data + tarball.END), encoding="utf-8") as opened:
        member = opened.next()
    assert member is not None
    assert (member.name, member.linkname, member.size) == (entry.name, entry.link, entry.size)
    assert (member.uid, member.gid, member.mtime) == (entry.uid, entry.gid, entry.mtime // 10**9)
    ours = next(iter(TarReader([data])))
    for name in ("name", "type", "mode", "size", "mtime", "link", "device", "capability"):
        assert getattr(ours, name) == getattr(entry, name), name


# --- packing ---


def packed(path: Path | str, rename: str = "", final: Callable[[str], str] = str) -> list[tarfile.TarInfo]:
    return members_of(b"".join(pack.pack(str(path), rename, final, [])))


def test_a_tree_is_packed_in_order_with_its_links(tmp_path: Path) -> None:
    root = tmp_path / "d"
    (root / "sub").mkdir(parents=True)
    (root / "b").write_bytes(b"b" * 600_000)
    os.link(root / "b", root / "sub/c")
    (root / "a").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe")
    members = packed(root)
    assert [(member.name, member.type) for member in members] == [
        ("d", DIR), ("d/a", LINK), ("d/b", tarfile.REGTYPE), ("d/pipe", FIFO), ("d/sub", DIR), ("d/sub/c", HARD),
    ]  # fmt: skip
    assert (members[1].linkname, members[5].linkname) == ("/etc/passwd", "d/b")
    assert [member.name for member in packed(f"{root}/.")][:3] == [".", "./a", "./b"]
    names = packed(root, "", lambda name: paths.renamed(name, "d", "new"))
    assert (names[0].name, names[5].name, names[5].linkname) == ("new", "new/sub/c", "new/b")
    assert packed(root, "other")[1].name == "other/a"


def test_sockets_and_what_cannot_be_read_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import socket

    root = tmp_path / "d"
    root.mkdir()
    (root / "z").write_text("z")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "sock"))
    unread: list[str] = []
    data = b"".join(pack.pack(str(root), "", str, unread))
    assert names_in(data) == ["d", "d/z"]
    assert unread == []
    assert capfd.readouterr().err.endswith(
        f'level=error msg="Can\'t add file {root}/sock to tar: archive/tar: sockets not supported"\n'
    )


def test_a_file_that_cannot_be_opened_is_left_out_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
    real = os.open

    def refuse(path: Any, *rest: Any, **more: Any) -> int:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    unread: list[str] = []
    data = b"".join(pack.pack(str(tmp_path), "", str, unread))
    assert [Path(name).name for name in names_in(data)[1:]] == ["a", "c"]
    assert unread == [f"{tmp_path}/b"]
    assert f"Can't add file {tmp_path}/b to tar: open {tmp_path}/b: permission denied" in capfd.readouterr().err


def test_a_file_that_shrinks_breaks_the_copy_off(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * (3 * pack.CHUNK))
    stream = pack.pack(str(path), "", str, [])
    next(stream)
    path.write_bytes(b"")
    with pytest.raises(CliError, match="missed writing"):
        list(stream)


# --- unpacking ---


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    made = tmp_path / "root"
    made.mkdir()
    return made


def unpack(root: Path, *members: tuple[str, bytes, dict[str, Any]], old: str = "", new: str = "") -> None:
    Unpacker(str(root)).unpack(TarReader(pieces(archive(*members))), old, new)


def outside(root: Path) -> list[tuple[str, int, str]]:
    """All that stands beside the root, with modes and contents."""
    return sorted(
        (str(path), path.lstat().st_mode, path.read_text() if path.is_file() else "")
        for path in root.parent.rglob("*")
        if path != root and root not in path.parents
    )


def test_a_tree_arrives_with_modes_times_and_links(root: Path) -> None:
    unpack(
        root,
        directory("d", 0o500, 1000),
        file("d/a", b"a" * 5000, mode=0o4750, mtime=2000.5, uid=12345),
        link("d/l", "a"),
        link("d/h", "d/a", HARD),
        ("d/p", b"", {"type": FIFO, "mode": 0o622}),
        file("implied/b"),
    )
    assert (root / "d/a").read_bytes() == b"a" * 5000
    found = (root / "d/a").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime, found.st_nlink) == (0o4750, 2000.5, 2)
    assert found.st_uid == os.getuid()
    assert (stat.S_IMODE((root / "d").stat().st_mode), (root / "d").stat().st_mtime) == (0o500, 1000)
    assert str((root / "d/l").readlink()) == "a"
    assert stat.S_ISFIFO((root / "d/p").stat().st_mode)
    assert stat.S_IMODE((root / "d/p").stat().st_mode) == 0o622
    assert stat.S_IMODE((root / "implied").stat().st_mode) == 0o755


def test_entries_are_renamed_for_where_they_go(root: Path) -> None:
    unpack(root, directory("etc"), file("etc/etc"), link("etc/h", "etc/etc", HARD), old="etc", new="new")
    assert sorted(path.name for path in (root / "new").iterdir()) == ["etc", "h"]
    unpack(root, directory("./"), file("./a"), old=".", new="dot")
    assert (root / "dot/a").exists()


HOSTILE: dict[str, tuple[list[tuple[str, bytes, dict[str, Any]]], str]] = {
    "a name with ..": ([file("../outside/secret", b"evil")], 'is outside of "'),
    "a name that comes to ..": ([file("a/../../outside/secret", b"evil")], 'is outside of "'),
    ".. itself": ([directory("..", 0o777)], 'is outside of "'),
    "an absolute link, then beneath it": ([link("l", "{outside}"), file("l/secret", b"evil")], 'is outside of "'),
    "a directory made beneath a link": ([link("l", "{outside}"), directory("l/d")], 'is outside of "'),
    "a link beneath a link": ([link("l", "{outside}"), link("l/m", "x")], 'is outside of "'),
    "a chain of links": ([link("a", "b"), link("b", "{outside}"), file("a/secret", b"evil")], 'is outside of "'),
    "a link in the middle": ([directory("d"), link("d/l", "{outside}"), file("d/l/secret", b"")], 'is outside of "'),
    "a link that climbs": ([link("l", "../outside")], "invalid symlink"),
    "a link that climbs from within": ([directory("d"), link("d/l", "../../outside")], "invalid symlink"),
    "a link to a name that begins as the root's": ([link("l", "../root-2")], "invalid symlink"),
    "a hard link that climbs": ([link("h", "../outside/secret", HARD)], "invalid hardlink"),
    "a hard link through a link": (
        [link("l", "{outside}"), link("h", "l/secret", HARD)],
        'is outside of "',
    ),
    "a hard link to what was there": ([link("h", "own", HARD)], "invalid hardlink"),
    "a hard link to the root": ([link("h", "/", HARD)], "invalid hardlink"),
    "a hard link to nothing": ([link("h", "nosuch", HARD)], "no such file or directory"),
    "a link, then a hard link to it and beneath": (
        [link("l", "{outside}"), link("h", "l", HARD), file("h/secret", b"evil")],
        'is outside of "',
    ),
    "a link that replaces a directory": ([directory("d"), link("d", "{outside}")], "cannot overwrite directory"),
    "a directory over a link": ([link("l", "{outside}"), directory("l", 0o777)], "cannot overwrite non-directory"),
    "a file over the root": ([file(".")], "cannot overwrite directory"),
    "a disk": ([("sda", b"", {"type": tarfile.BLKTYPE, "devmajor": 8})], "operation not permitted"),
    "a terminal": ([("tty", b"", {"type": tarfile.CHRTYPE, "devmajor": 5})], "operation not permitted"),
    "a kind of tomorrow": ([("x", b"", {"type": b"Z"})], "unhandled tar header type 90"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_changes_nothing_outside(what: str, root: Path) -> None:
    members, message = HOSTILE[what]
    there = str(root.parent / "outside")
    aimed = [
        (name, content, {**more, "linkname": more["linkname"].format(outside=there)} if "linkname" in more else more)
        for name, content, more in members
    ]
    (root / "own").write_text("own")
    before = outside(root)
    with pytest.raises(CliError, match=message):
        unpack(root, *aimed)
    assert outside(root) == before
    assert (root / "own").stat().st_nlink == 1
    assert (root / "own").read_text() == "own"


def test_an_absolute_name_is_one_beneath_the_root(root: Path) -> None:
    before = outside(root)
    unpack(root, file("/etc/passwd"), file("//a"), file("/../b"))
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == ["a", "b", "passwd"]
    assert outside(root) == before


def test_a_link_of_the_users_is_replaced_or_refused_never_followed(root: Path) -> None:
    before = outside(root)
    (root / "f").symlink_to("../outside/secret")
    (root / "d").symlink_to("../outside")
    unpack(root, file("f", b"new"))
    assert not (root / "f").is_symlink()
    with pytest.raises(CliError, match="cannot overwrite non-directory"):
        unpack(root, directory("d"), file("d/secret", b"evil"))
    with pytest.raises(BadArchive, match="is outside of"):
        unpack(root, file("d/secret", b"evil"))
    assert outside(root) == before


def test_a_directory_that_becomes_a_link_meanwhile_leads_nowhere(root: Path) -> None:
    """The destination may be mounted into the container, whose processes then change it while it is written."""
    data = archive(directory("d"), file("d/a", b"1" * 2000), file("d/secret", b"evil"), file("e"), file("d/secret"))
    before = outside(root)

    def chunks() -> Iterator[bytes]:
        yield data[:1536]
        (root / "d").rename(root / "moved")
        (root / "d").symlink_to("../outside")
        yield data[1536:]

    with pytest.raises(BadArchive, match="is outside of"):
        Unpacker(str(root)).unpack(TarReader(chunks()))
    assert outside(root) == before


def test_modes_go_to_no_link_either(root: Path) -> None:
    data = archive(directory("d", 0o777), file("x"))
    before = outside(root)

    def chunks() -> Iterator[bytes]:
        yield data[:512]
        yield data[512:1536]
        (root / "d").rmdir()
        (root / "d").symlink_to("../outside")
        yield data[1536:]

    with pytest.raises(CliError, match=r"not a directory|too many levels"):
        Unpacker(str(root)).unpack(TarReader(chunks()))
    assert outside(root) == before


def test_what_is_in_the_way_is_told_in_dockers_words(root: Path) -> None:
    (root / "d").mkdir()
    (root / "f").touch()
    with pytest.raises(CliError) as told:
        unpack(root, file("d"))
    assert told.value.message == f'cannot overwrite directory "{root}/d" with non-directory "{root}"'
    with pytest.raises(CliError) as told:
        unpack(root, directory("f"))
    assert told.value.message == f'cannot overwrite non-directory "{root}/f" with directory "{root}"'


def test_a_broken_copy_leaves_directories_with_their_modes(root: Path) -> None:
    with pytest.raises(CliError):
        unpack(root, directory("d", 0o751), file("../x"))
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o751


def test_times_that_no_clock_shows_are_the_epoch(root: Path) -> None:
    unpack(root, file("a", mtime=-5), file("b", mtime=10**17))
    assert ((root / "a").stat().st_mtime, (root / "b").stat().st_mtime) == (0, 0)


def test_names_that_would_move_the_cursor_are_told_escaped(root: Path) -> None:
    with pytest.raises(CliError) as told:
        unpack(root, directory("\x1b[2J"), file("\x1b[2J"))
    assert told.value.message == f'cannot overwrite directory "{root}/\\x1b[2J" with non-directory "{root}"'
    with pytest.raises(CliError) as told:
        unpack(root, file("\x1b" * 300))
    assert "\x1b" not in told.value.message
    assert quoted('a"\\\n\x00\x7fé\u200b\udcff😀') == '"a\\"\\\\\\n\\x00\\x7fé\\u200b\\xff😀"'


# --- the whole command, against an engine of our own ---


def stat_header(mode: int, target: str = "") -> dict[str, str]:
    value = {"name": "x", "size": 0, "mode": mode, "mtime": "2024-01-01T00:00:00Z", "linkTarget": target}
    return {"X-Docker-Container-Path-Stat": base64.b64encode(json.dumps(value).encode()).decode()}


class Engine(socketserver.ThreadingUnixStreamServer):
    """Answers with what `stats` (by path) and `content` say and keeps what comes: (method, path, query, body)."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.stats: dict[str, tuple[int, str]] = {}
        self.content = b""
        self.refusal = ""
        self.headers: dict[str, str] | None = None
        self.calls: list[tuple[str, str, dict[str, list[str]], bytes]] = []
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: there is no peer address to tell."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        body = b""
        if self.headers.get("Transfer-Encoding"):
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.server.calls.append((self.command, url.path, query, body))
        found = self.server.stats.get(query["path"][0])
        status, headers, answer = 200, {}, self.server.content
        if self.command == "PUT":
            answer = b""
            if self.server.refusal:
                status, answer = 400, json.dumps({"message": self.server.refusal}).encode()
        elif found is None:
            status, answer = 404, b'{"message": "Could not find the file"}'
        else:
            headers = stat_header(*found) if self.server.headers is None else self.server.headers
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_HEAD = do_GET = do_PUT = _answer


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "engine.sock") as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("PWD", str(work))
    monkeypatch.setenv("COVE_HOST", f"unix://{tmp_path}/engine.sock")

    class Ended(BaseException):
        pass

    def end(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr("os._exit", end)

    def go(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(Ended) as ended:
            cli.main(list(words))
        out = capfd.readouterr()
        return ended.value.args[0], out.out, out.err

    yield go


D = copy.DIRECTORY | 0o755


def test_a_file_comes_out_of_a_container(run: Run, engine: Engine) -> None:
    engine.stats["/etc/passwd"] = (0o644, "")
    engine.content = archive(file("passwd", b"root"))
    work = Path.cwd()
    assert run("cp", "-q=false", "c1:/etc/passwd", ".") == (0, "", f"Successfully copied 10.2kB to {work}/.\n")
    assert run("container", "cp", "c1:/etc/passwd", "mine") == (0, "", "")
    assert [Path(name).read_text() for name in ("passwd", "mine")] == ["root", "root"]
    assert engine.calls[0][:3] == ("GET", "/containers/c1/archive", {"path": ["/etc/passwd"]})
    status, out, _ = run("cp", "c1:/etc/passwd", "-")
    assert (status, out.encode()) == (0, engine.content)


def test_a_link_in_a_container_is_followed_when_asked(run: Run, engine: Engine) -> None:
    engine.stats |= {"/l/link": (copy.LINK | 0o777, "real"), "/l/real": (0o644, "")}
    engine.content = archive(file("real", b"x"))
    assert run("cp", "-L", "c1:/l/link", ".")[0] == 0
    assert Path("link").read_text() == "x"
    assert engine.calls[-1][2] == {"path": ["/l/real"]}
    assert run("cp", "-L", "c1:/l/link", "named")[0] == 0
    assert Path("named").read_text() == "x"


def test_a_file_goes_into_a_container(run: Run, engine: Engine) -> None:
    engine.stats["/tmp"] = (D, "")
    Path("f").write_text("text")
    assert run("cp", "-q=false", "-a", "f", "c1:/tmp") == (0, "", "Successfully copied 2.05kB to c1:/tmp\n")
    method, path, query, body = engine.calls[-1]
    assert (method, path) == ("PUT", "/containers/c1/archive")
    assert query == {"path": ["/tmp"], "noOverwriteDirNonDir": ["true"], "copyUIDGID": ["true"]}
    assert names_in(body) == ["f"]
    assert run("cp", "f", "c1:/tmp/new")[0] == 0
    assert engine.calls[-1][2] == {"path": ["/tmp"], "noOverwriteDirNonDir": ["true"]}
    assert names_in(engine.calls[-1][3]) == ["new"]


def test_a_destination_that_is_a_link_is_resolved_once(run: Run, engine: Engine) -> None:
    engine.stats |= {"/a/link": (copy.LINK | 0o777, "../tmp"), "/tmp": (D, "")}
    Path("f").write_text("text")
    assert run("cp", "-q=false", "f", "c1:/a/link") == (0, "", "Successfully copied 2.05kB to c1:/tmp\n")
    assert engine.calls[-1][2]["path"] == ["/tmp"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a", "b"), "must specify at least one container source"),
        (("c:a", "d:b"), "copying between containers is not supported"),
        (("", "b"), "source can not be empty"),
        (("a", ""), "destination can not be empty"),
        ((" :/x", "b"), "invalid container name or ID: value is empty"),
        (("c:/nosuch", "."), "Error response from daemon: Could not find the file"),
        (("-", "c:/nosuch"), 'destination "c:/nosuch" must be a directory'),
        (("f", "c:/null"), 'destination "c:/null" must be a directory or a regular file: got a device'),
        (("nosuch", "c:/tmp"), "lstat {work}/nosuch: no such file or directory"),
        (("c:/tmp", "no/such"), 'invalid output path: directory "{work}/no" does not exist'),
    ],
)
def test_refusals(words: tuple[str, str], message: str, run: Run, engine: Engine) -> None:
    engine.stats |= {"/tmp": (D, ""), "/null": (copy.DEVICE | 0o666, "")}
    Path("f").write_text("text")
    assert run("cp", *words) == (1, "", message.format(work=Path.cwd()) + "\n")
    assert not [call for call in engine.calls if call[0] == "PUT"]


def test_what_the_engine_refuses_is_told_after_the_sum(run: Run, engine: Engine) -> None:
    engine.refusal = "no"
    Path("f").write_text("text")
    said = "Successfully copied 2.05kB to c1:/x\nError response from daemon: no\n"
    assert run("cp", "-q=false", "f", "c1:/x") == (1, "", said)


@pytest.mark.parametrize("header", [None, "", "!", base64.b64encode(b"[]").decode(), base64.b64encode(b"{}").decode()])
def test_an_answer_without_a_stat_is_refused(header: str | None, run: Run, engine: Engine) -> None:
    engine.stats["/x"] = (0o644, "")
    engine.headers = {} if header is None else {"X-Docker-Container-Path-Stat": header}
    status, out, err = run("cp", "c1:/x", "y")
    assert (status, out) == (1, "")
    assert err.startswith("unable to get resource stat from response: unable to decode container path stat header: ")
    assert not Path("y").exists()


def test_progress_is_drawn_over_itself_and_cleared(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("cove.cli.terminal.is_terminal", lambda fd: True)
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    with copy.Progress("Copying - ", quiet=False) as progress:
        assert list(progress.count([b"x" * 1500, b"y" * 500])) == [b"x" * 1500, b"y" * 500]
    progress.done("c:/x")
    assert capfd.readouterr().err == (
        "\x1b[sPreparing to copy...\x1b[?25l\x1b[u\x1b[2KCopying - 0B\x1b[11G\x1b[0K1.5kB\x1b[11G\x1b[0K2kB"
        "\x1b[?25h\x1b[u\x1b[2KSuccessfully copied 2kB to c:/x\n"
    )


def test_paths_of_windows() -> None:
    import ntpath

    rules = Rules(ntpath)
    assert rules.split("C:\\a\\b\\.") == ("C:\\a\\b", ".")
    assert rules.keep_ending("C:\\a", "a\\") == "C:\\a\\"
    assert rules.is_absolute("\\windows")
    assert LOCAL.separator == os.sep
