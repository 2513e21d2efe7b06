"""The file server on Windows' own files, with a real Python for Windows (docs/platforms.md says how one runs under Wine)."""

from __future__ import annotations

import errno
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "win32":
    pytest.skip("of Windows", allow_module_level=True)

import _winapi

from cove.share.ninep import nt, ntfs, stream, tree, windows
from cove.share.ninep.wire import T
from ninep_client import O_RDWR, O_TRUNC, O_WRONLY, REMOVEDIR, RefusedError, connected, text

SECRET = b"not for the guest"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder beside which lies what must stay unread and unchanged."""
    (tmp_path / "secret").write_bytes(SECRET)
    folder = tmp_path / "share"
    (folder / "d").mkdir(parents=True)
    (folder / "d" / "f").write_bytes(b"fine")
    return folder


def refused(*numbers: int) -> Callable[[Callable[[], object]], None]:
    """Linux's numbers of the errors that may come."""

    def check(ask: Callable[[], object]) -> None:
        with pytest.raises(RefusedError) as error:
            ask()
        assert error.value.number in numbers, error.value.number

    return check


HOSTILE = [
    b"..\\secret", b"..\\..\\secret", b"d\\f", b"\\secret", b"\\??\\C:\\windows", b"C:", b"C:\\windows", b"f:stream", b"f::$DATA", b"d:",
    b":x", b"con", b"NUL", b"aux.txt", b"COM1", b"f.", b"f ", b"d.", b"fi?", b"*", b"<", b"tab\t", b"\xff",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_name_of_windows_is_neither_found_nor_made(root: Path, name: bytes) -> None:
    with connected(root) as client:
        client.clunk(client.create("mine"))
        below = client.walk("d")
        missing, invalid = refused(2), refused(22)
        for parent in (0, below):
            missing(lambda parent=parent: client.ask(T.WALK, struct.pack("<IIH", parent, 99, 1) + text(name)))
            missing(lambda parent=parent: client.unlink(name, parent))
            missing(lambda parent=parent: client.unlink(name, parent, REMOVEDIR))
            missing(lambda parent=parent: client.rename(name, "x", parent, 0))
            for ask in (
                lambda parent=parent: client.create(name, parent=parent), lambda parent=parent: client.mkdir(name, parent),
                lambda parent=parent: client.symlink(name, "x", parent), lambda parent=parent: client.mknod(name, 0o100644, parent),
                lambda parent=parent: client.rename("mine", name, 0, parent),
                lambda parent=parent: client.link(client.walk("d/f"), name, parent),
            ):  # fmt: skip
                invalid(ask)
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) == ["d", "d/f", "mine"]
    assert (root.parent / "secret").read_bytes() == SECRET


def test_the_second_name_of_a_file_is_nobodys(root: Path) -> None:
    (root / "a long name.text").write_bytes(b"x")
    short = Path(_winapi.GetShortPathName(str(root / "a long name.text"))).name
    if short == "a long name.text":
        pytest.skip("this disk has no second names")
    (root / "real~1.txt").write_bytes(b"y")
    with connected(root) as client:
        refused(2)(lambda: client.walk(short))
        assert client.read(client.open("real~1.txt")) == b"y"
        assert client.read(client.open("A LONG NAME.TEXT")) == b"x"  # any case does, as Windows has it
        refused(17)(lambda: client.rename("real~1.txt", short))  # which would be another file's end
        refused(17)(lambda: client.rename("d", short))
        client.rename("real~1.txt", "real~2.txt")
        assert client.names("") == {b"a long name.text", b"real~2.txt", b"d"}
    assert (root / "a long name.text").read_bytes() == b"x"


def reparse_point(monkeypatch: pytest.MonkeyPatch, number: int, tag: int, data: bytes = b"") -> None:
    """Have a file be a reparse point, of which Wine 8 has none: so the kernel tells of it, whoever opens it."""
    ask = nt.ask

    def asked(handle: int, what: int, size: int) -> bytes:
        answer = bytearray(ask(handle, what, size))
        if struct.unpack_from("<Q", ask(handle, nt.ALL, 1024), 64)[0] == number:
            place = {nt.ALL: 32, nt.TAG: 0}[what]
            struct.pack_into("<I", answer, place, struct.unpack_from("<I", answer, place)[0] | nt.IS_REPARSE)
            if what == nt.TAG:
                struct.pack_into("<I", answer, 4, tag)
        return bytes(answer)

    monkeypatch.setattr(nt, "ask", asked)
    monkeypatch.setattr(nt, "reparse_data", lambda handle: data)


def number_of(path: Path) -> int:
    handle = nt.open_root(path.parent)
    try:
        return windows.look_at(handle, path.name.encode()).ino
    finally:
        nt.close(handle)


@pytest.mark.parametrize("tag", [ntfs.JUNCTION, ntfs.SYMLINK, ntfs.LX_SYMLINK, 0xA0001234])
def test_a_directory_that_is_a_link_is_not_entered(root: Path, monkeypatch: pytest.MonkeyPatch, tag: int) -> None:
    with connected(root) as client:
        before = client.walk("d")
        number = number_of(root / "d")
        reparse_point(monkeypatch, number, tag, ntfs.link_data(b"../secret"))
        again = client.walk("d")
        assert stat.S_ISLNK(client.getattr(again)["mode"])
        assert client.readlink("d") == b"../secret"
        windows_refuses = refused(40, 20, 21, 2, 1, 95)
        windows_refuses(lambda: client.walk("d/f"))
        for ask in (
            lambda fid: client.walk("f", fid), lambda fid: client.create("n", parent=fid), lambda fid: client.mkdir("n", fid),
            lambda fid: client.unlink("f", fid), lambda fid: client.rename("f", "stolen", fid, 0),
            lambda fid: client.setattr(fid, 1, mode=0o444),
        ):  # fmt: skip
            windows_refuses(lambda ask=ask: ask(again))
        windows_refuses(lambda: client.unlink("d", flags=REMOVEDIR))
        client.clunk(before)
    assert (root / "d" / "f").read_bytes() == b"fine"
    assert [path.name for path in root.iterdir()] == ["d"]


def test_a_directory_that_is_held_is_not_entered_once_it_is_a_link(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is empty can become a junction, and stays the same file."""
    (root / "d" / "f").unlink()
    number = number_of(root / "d")
    monkeypatch.setattr(tree, "FRESH_S", 0.0)
    monkeypatch.setattr(stream, "REST_S", 60.0)
    with connected(root) as client:
        fid = client.walk("d")
        client.mkdir("before", fid)
        client.unlink("before", fid, REMOVEDIR)
        client.mknod("x", 0o100644, fid)
        client.unlink("x", fid)  # and now it is held
        reparse_point(monkeypatch, number, ntfs.JUNCTION)
        refused(40)(lambda: client.mknod("y", 0o100644, fid))
    assert [*(root / "d").iterdir()] == []


def test_a_windows_that_does_not_know_how_to_refuse_links_is_asked_without(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, asked = nt._create, []

    def old(handle: object, access: object, place: Any, *rest: object) -> int:
        asked.append(place._obj.attributes)
        return int(create(handle, access, place, *rest)) if place._obj.attributes == 0x40 else 0xC000000D - (1 << 32)

    monkeypatch.setattr(nt, "_attributes", 0x1040)
    monkeypatch.setattr(nt, "_create", old)
    handle = nt.open_root(root)
    try:
        for _ in range(2):
            assert windows.look_at(handle, b"d").is_dir
    finally:
        nt.close(handle)
    assert asked == [0x1040, 0x40, 0x40]


def test_a_link_that_is_come_to_is_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nt, "_create", lambda *words: 0xC000050B - (1 << 32))
    handle = nt.open_root(root)
    try:
        with pytest.raises(OSError) as error:
            windows.look_at(handle, b"d")
        assert error.value.errno == errno.ELOOP
        monkeypatch.setattr(nt, "_create", lambda *words: 0xC0000056 - (1 << 32))
        with pytest.raises(FileNotFoundError):
            windows.look_at(handle, b"d")
        with pytest.raises(OSError) as error:  # its name is not free yet
            windows.make_directory(handle, b"d", 0o777)
        assert error.value.errno == errno.EBUSY
    finally:
        nt.close(handle)


def test_a_files_number_is_the_same_in_a_listing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = nt.ask

    def asked(handle: int, what: int, size: int) -> bytes:
        answer = ask(handle, what, size)
        return answer if what != nt.ALL else answer[:64] + struct.pack("<Q", (1 << 64) - 2) + answer[72:]

    monkeypatch.setattr(nt, "ask", asked)
    assert number_of(root / "d") == (1 << 64) - 2  # as some file systems number theirs


@pytest.mark.parametrize("tag", [ntfs.SYMLINK, ntfs.LX_SYMLINK, ntfs.LX_FIFO, ntfs.AF_UNIX, 0x80000013])
def test_a_file_that_is_a_reparse_point_is_not_opened(root: Path, monkeypatch: pytest.MonkeyPatch, tag: int) -> None:
    with connected(root) as client:
        reparse_point(monkeypatch, number_of(root / "d" / "f"), tag, ntfs.link_data(b"x"))
        for flags in (0, O_WRONLY, O_RDWR | O_TRUNC):
            refused(40, 13)(lambda flags=flags: client.open("d/f", flags))
        refused(40, 13)(lambda: client.setattr(client.walk("d/f"), 8))
    assert (root / "d" / "f").read_bytes() == b"fine"


def test_modes_are_the_read_only_attribute(root: Path) -> None:
    with connected(root) as client:

        def mode(path: str) -> int:
            return client.getattr(client.walk(path))["mode"]

        assert (mode("d"), mode("d/f")) == (0o40777, 0o100777)
        client.setattr(client.walk("d/f"), 1, mode=0o400)
        assert mode("d/f") == 0o100555
        client.setattr(client.walk("d/f"), 1, mode=0o644)
        assert mode("d/f") == 0o100777
        fid = client.create("locked", mode=0o444)
        assert client.write(fid, b"x") == 1
        client.clunk(fid)
        assert mode("locked") == 0o100555
        client.unlink("locked")  # as on Linux, where the directory decides
        client.setattr(client.walk("d"), 1, mode=0o500)
        assert mode("d") == 0o40777
        client.setattr(client.walk("d/f"), 2 | 4, uid=999, gid=998)
        assert [client.getattr(client.walk("d/f"))[who] for who in ("uid", "gid")] == [999, 998]


def test_directories_are_not_held_when_nobody_asks(root: Path) -> None:
    """Windows renames none in which one is open."""
    with connected(root) as client:
        client.mkdir("in", client.walk("d"))
        below = client.walk("d/in")
        client.mkdir("x", below)
        client.unlink("x", below, REMOVEDIR)
        client.rename("d", "e")  # nor when the guest itself does
        assert client.names("e") == {b"f", b"in"}
        client.mkdir("y", below)
        assert (root / "e" / "in" / "y").is_dir()


def test_a_directory_takes_the_place_of_an_empty_one(root: Path) -> None:
    with connected(root) as client:
        client.mkdir("empty")
        client.rename("d", "empty")
        assert client.names("empty") == {b"f"}
        client.mkdir("other")
        refused(39, 17, 13)(lambda: client.rename("other", "empty"))
        assert client.names("") == {b"empty", b"other"}


def test_what_was_to_make_room_is_there_again_when_it_was_in_vain(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell = nt.tell
    monkeypatch.setattr(
        nt,
        "tell",
        lambda handle, what, data: 0xC0000022 if what in (nt.RENAME, nt.RENAME_EX) else tell(handle, what, data),
    )
    with connected(root) as client:
        client.mkdir("empty")
        refused(13)(lambda: client.rename("d", "empty"))
        assert client.names("") == {b"d", b"empty"}


def test_a_read_only_file_is_removed_as_an_older_windows_does_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell, open_at, access = nt.tell, nt.open_at, {}

    def opened(parent: int, name: str, wanted: int, **how: Any) -> int:
        handle = open_at(parent, name, wanted, **how)
        access[handle] = wanted
        return handle

    def old(handle: int, what: int, data: bytes) -> int:
        if what == nt.BASIC and not access[handle] & nt.WRITE_ATTRIBUTES:  # at which Wine 8 does not look
            return 0xC0000022
        if what == nt.DISPOSITION_EX:
            return 0xC0000003
        if what == nt.DISPOSITION and struct.unpack_from("<I", nt.ask(handle, nt.TAG, 8))[0] & nt.READ_ONLY:
            return 0xC0000121
        return tell(handle, what, data)

    monkeypatch.setattr(nt, "tell", old)
    monkeypatch.setattr(nt, "open_at", opened)
    with connected(root) as client:
        client.clunk(client.create("locked", mode=0o444))
        client.unlink("locked")
        assert client.names("") == {b"d"}


def test_no_offset_means_the_end(root: Path) -> None:
    with connected(root) as client:
        fid = client.open("d/f", O_RDWR)
        for offset in (1 << 63, (1 << 64) - 1, (1 << 64) - 2):
            refused(22)(lambda offset=offset: client.write(fid, b"x", offset))
            refused(22)(lambda offset=offset: client.read(fid, offset))
        assert client.read(fid) == b"fine"


def test_a_time_that_is_set_while_a_file_is_written_is_kept_until_the_next_write(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NTFS sets it to that of its close, unless it was given by the handle that wrote; Wine 8 knows nothing of either."""
    tell, told = nt.tell, []

    def telling(handle: int, what: int, data: bytes) -> int:
        if what == nt.BASIC:
            told.append((handle, struct.unpack_from("<qqq", data)[2]))
        return tell(handle, what, data)

    monkeypatch.setattr(nt, "tell", telling)
    with connected(root) as client:
        fid = client.open("d/f", O_RDWR)
        client.write(fid, b"x")
        client.setattr(fid, 0x20 | 0x100, mtime=10**9)
        assert client.getattr(fid)["mtime"] == 10**9
        client.write(fid, b"y")
        client.write(fid, b"z")
        client.clunk(fid)
    given = (10**9 + 11644473600) * 10**7
    assert told == [(told[0][0], given), (told[0][0], -2)]
    assert (root / "d" / "f").stat().st_mtime > 10**9


def test_what_is_open_for_writing_is_changed_by_what_is_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have no name any more."""
    with connected(root) as client:
        fid = client.open("d/f", O_RDWR)
        open_at = nt.open_at

        def gone(parent: int, name: str, *words: Any, **how: Any) -> int:
            if not name:
                raise FileNotFoundError(errno.ENOENT, "gone")
            return open_at(parent, name, *words, **how)

        monkeypatch.setattr(nt, "open_at", gone)
        client.setattr(fid, 1, mode=0o400)
        client.setattr(fid, 0x20 | 0x100, mtime=10**9)
        found = client.getattr(fid)
        assert (found["mode"], found["mtime"]) == (0o100555, 10**9)


def test_what_is_far_beyond_a_files_end_is_not_filled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse: list[int] = []
    monkeypatch.setattr(nt, "make_sparse", sparse.append)
    with connected(root) as client:
        fid = client.open("d/f", O_RDWR)
        for place in (0, 1 << 20, (2 << 20) + 1):
            client.write(fid, b"x", place)
        assert sparse == []
        client.write(fid, b"x", 4 << 20)
        assert len(sparse) == 1
        client.setattr(fid, 8, size=8 << 20)
        assert len(sparse) == 2
        assert client.read(fid, 4 << 20, 4) == b"x\0\0\0"
    monkeypatch.undo()
    with connected(root) as client:  # where there are none, it is filled after all
        fid = client.open("d/f", O_RDWR)
        client.write(fid, b"x", 16 << 20)
        assert client.getattr(fid)["size"] == (16 << 20) + 1


def test_links_need_a_file_system_that_has_them(root: Path) -> None:
    """Wine 8 makes none, and then nothing is left of it; on Windows it is one of WSL's."""
    with connected(root) as client:
        try:
            client.symlink("link", "../secret")
        except RefusedError as error:
            assert error.number == 1
            assert client.names("") == {b"d"}
            return
        assert client.readlink("link") == b"../secret"
        assert client.getattr(client.walk("link"))["size"] == 9
        with pytest.raises(OSError):
            (root / "link").read_bytes()  # no program of Windows follows it
        client.unlink("link")


def test_a_name_longer_than_old_programs_know(tmp_path: Path) -> None:
    deep = tmp_path
    with connected(tmp_path) as client:
        fid = 0
        for _ in range(6):
            client.mkdir("x" * 60, fid)
            fid = client.walk("x" * 60, fid)
            deep /= "x" * 60
        client.clunk(client.create("f", parent=fid))
    with connected(deep) as client:
        assert client.names("") == {b"f"}


def test_the_helper_is_answered_without_a_link_being_made(root: Path) -> None:
    with connected(root) as client:
        client.attach(1000, 0xC07E0001)
        refused(1)(lambda: client.symlink(".cove-pretend", "{}", 1000))
        assert client.names("") == {b"d"}
