"""The file server does what the messages say, on real files."""

from __future__ import annotations

import json
import os
import stat
import struct
import threading
import time
from pathlib import Path

import pytest
from cove.local import sockets
from cove.share.ninep import session, wire
from cove.share.ninep.host import host
from cove.share.ninep.wire import T
from coved.shares.pump import MARK
from ninep_client import O_EXCL, O_RDWR, O_TRUNC, O_WRONLY, REMOVEDIR, Client, RefusedError, connected, serving, text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    folder.mkdir()
    (folder / "a").write_bytes(b"hello")
    (folder / "d").mkdir()
    (folder / "d" / "e").write_bytes(b"deep")
    return folder


def test_versions_and_sizes_are_agreed(root: Path) -> None:
    with serving(root) as connection:
        client = Client(connection)
        assert client.version(1 << 30) == (wire.MAX_MSIZE, b"9P2000.L")
        assert client.version(8192, "9P2000.u") == (8192, b"unknown")
        with pytest.raises(RefusedError):
            client.attach()
        with pytest.raises(RefusedError):
            client.version(100)
        assert client.version(8192) == (8192, b"9P2000.L")
        client.attach()
        fid = client.create("big")
        client.write(fid, bytes(range(256)) * 28)
        assert len(client.read(fid, 0, 1 << 20)) == 7168
        (root / "big").write_bytes(b"x" * 20000)
        assert len(client.read(fid, 0, 1 << 20)) == 8192 - 11


def test_files_are_read_written_and_cut(root: Path) -> None:
    with connected(root) as client:
        fid = client.open("a", O_RDWR)
        assert client.read(fid) == b"hello"
        assert client.write(fid, b"J") == 1
        assert client.read(fid, 1, 2) == b"el"
        client.setattr(fid, 8, size=2)
        assert (root / "a").read_bytes() == b"Je"
        data = os.urandom(700_000)
        assert client.write(fid, data, 10) == len(data)
        assert client.read(fid, 10, 1 << 20) == data
        client.ask(T.FSYNC, struct.pack("<II", fid, 1))
        client.clunk(fid)
        client.clunk(client.open("a", O_WRONLY | O_TRUNC))
        assert (root / "a").read_bytes() == b""
        with pytest.raises(RefusedError, match="File exists"):
            client.create("a", O_EXCL)
        client.clunk(client.create("new", mode=0o640))
        assert (root / "new").stat().st_mode & 0o7777 == 0o640


def test_entries_are_made_moved_and_removed(root: Path) -> None:
    with connected(root) as client:
        client.mkdir("m")
        below = client.walk("m")
        client.symlink("s", b"/etc/passwd", below)
        assert client.readlink("m/s") == b"/etc/passwd"
        client.mknod("p", stat.S_IFIFO | 0o600, below)
        client.mknod("k", stat.S_IFSOCK | 0o600, below)
        client.link(client.walk("a"), "hard", below)
        assert client.names("m") == {b"s", b"p", b"k", b"hard"}
        assert client.getattr(client.walk("m/hard"))["nlink"] == 2
        client.rename("m", "n", 0, client.walk("d"))
        assert client.readlink("d/n/s") == b"/etc/passwd"
        assert client.read(client.open("d/n/hard")) == b"hello"
        client.unlink("s", below)  # its directory has moved, and the fid with it
        assert client.names("d/n") == {b"p", b"k", b"hard"}
        for name in ("p", "k", "hard"):
            client.unlink(name, below)
        with pytest.raises(RefusedError, match="Directory not empty"):
            client.unlink("d", flags=REMOVEDIR)
        client.unlink("n", client.walk("d"), REMOVEDIR)
        client.ask(T.REMOVE, struct.pack("<I", client.walk("d/e")))
        assert client.names("d") == set()
        with pytest.raises(RefusedError, match="not permitted"):
            client.mknod("dev", stat.S_IFCHR | 0o600, device=(1, 3))


def test_the_time_that_a_file_gets_at_its_close_is_of_the_guests_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NTFS gives it: the guest's kernel keeps what it has of the file."""
    (tmp_path / "f").write_bytes(b"x")
    close, last = host.close, threading.Event()

    def closed(descriptor: int) -> None:
        close(descriptor)
        if last.is_set():
            last.clear()
            os.utime(tmp_path / "f", ns=(10**18, 10**18))

    monkeypatch.setattr(host, "TIMES_AT_CLOSE", True)
    monkeypatch.setattr(host, "close", closed)
    with connected(tmp_path) as client:
        fid = client.open("f", O_RDWR)
        client.write(fid, b"y")
        before = client.ask(T.WALK, struct.pack("<IIH", 0, 99, 1) + text("f"))
        last.set()
        client.clunk(fid)
        assert not last.is_set()
        assert client.ask(T.WALK, struct.pack("<IIH", 0, 98, 1) + text("f")) == before


def test_what_is_open_outlives_its_name(root: Path) -> None:
    with connected(root) as client:
        walked, fid = client.walk("a"), client.open("a", O_RDWR)
        client.unlink("a")
        (root / "a").write_bytes(b"another")
        assert client.read(fid) == b"hello"
        assert client.getattr(fid)["size"] == client.getattr(walked)["size"] == 5
        client.setattr(walked, 8, size=1)
        assert client.read(fid) == b"h"
        assert (root / "a").read_bytes() == b"another"
        again = client.walk(fid=walked)
        client.lopen(again, O_RDWR)
        assert client.read(again) == b"h"
        client.clunk(fid)
        client.clunk(again)
        with pytest.raises(RefusedError, match="No such file"):
            client.getattr(walked)
        first, second = client.open("a"), client.create("b")
        client.write(second, b"replaced")
        client.rename("b", "a")
        assert client.read(first) == b"another"
        assert client.read(client.open("a")) == b"replaced"


def test_large_directories_and_hard_names(root: Path) -> None:
    names = {b"n%05d" % number for number in range(20_000)} | {b"\xff\xfe not utf-8 \n", b"x" * 255, "ü".encode()}
    big = root / "big"
    big.mkdir()
    for name in names:
        os.close(os.open(os.fsencode(big) + b"/" + name, os.O_CREAT | os.O_WRONLY))
    with connected(root) as client:
        assert client.names("big") == names
        fid = client.open("big")
        first = client.readdir(fid)
        for name in (b"new one", first[-1][0]):  # what comes or goes meanwhile disturbs nothing
            (client.mkdir if name == b"new one" else client.unlink)(name, client.walk("big"))
        rest, offset = first, first[-1][3]
        while entries := client.readdir(fid, offset, 100_000):
            rest += entries
            offset = entries[-1][3]
        assert [entry[0] for entry in rest[:2]] == [b".", b".."]
        assert {entry[0] for entry in rest[2:]} == names
        assert client.readdir(fid, 1 << 63) == []
        with pytest.raises(RefusedError, match="Invalid"):
            client.readdir(fid, 0, 10)
        found = next(entry for entry in rest if entry[0] == b"n00000")
        assert found[1:3] == (wire.DT_REG, client.getattr(client.walk("big/n00000"))["path"])
        with pytest.raises(RefusedError, match="too long"):
            client.mkdir(b"y" * 256)


def test_owners_are_what_containers_say(root: Path) -> None:
    with connected(root) as client:
        assert [client.getattr(client.walk("a"))[who] for who in ("uid", "gid")] == [0, 0]
        client.setattr(client.walk("a"), 2 | 4, uid=999, gid=998)
        client.symlink("s", "a")
        client.setattr(client.walk("s"), 2, uid=5)
        assert client.getattr(client.walk("s"))["uid"] == 5
    assert (root / "a").stat().st_uid == os.getuid()
    with connected(root, uid=1000) as client:
        assert [client.getattr(client.walk("a"))[who] for who in ("uid", "gid")] == [999, 998]
        client.clunk(client.create("made", gid=1000))
        client.mkdir("folder")
        assert client.getattr(client.walk("made"))["uid"] == 1000
        assert client.getattr(client.walk("folder"))["uid"] == 1000
        client.setattr(client.walk("a"), 2 | 4, uid=0, gid=0)
        with pytest.raises(RefusedError):
            client.get_xattr("a", "user.cove.owner")
        with pytest.raises(RefusedError):
            client.set_xattr("a", "user.cove.owner", b"1:1")
    assert os.listxattr(root / "a") == []
    assert (root / "made").stat().st_uid == os.getuid()


def test_files_are_the_users_by_their_own_numbers(root: Path) -> None:
    def owner(client: Client, name: str) -> list[int]:
        return [client.getattr(client.walk(name))[who] for who in ("uid", "gid")]

    me = (1000, 1001)
    with connected(root, uid=1000, owner=me) as client:
        assert owner(client, "a") == [1000, 1001]
        client.clunk(client.create("mine", gid=1001))
    assert os.listxattr(root / "mine") == [] and os.listxattr(root) == []  # nothing is noted of what is as it is here
    with connected(root, uid=0, owner=me) as client:
        client.clunk(client.create("roots", gid=0))
        client.mkdir("roots-too")
        assert owner(client, "roots") == owner(client, "roots-too") == [1000, 1001]
        assert os.listxattr(root) == []
        client.setattr(client.walk("roots"), 2 | 4, uid=0, gid=0)
        assert owner(client, "roots") == [0, 0]
    with connected(root, uid=33, owner=me) as client:
        client.clunk(client.create("anothers", gid=33))
        assert (owner(client, "anothers"), owner(client, "roots")) == ([33, 33], [0, 0])


def test_modes_are_real_but_for_set_user_id(root: Path) -> None:
    (root / "suid").write_bytes(b"")
    (root / "suid").chmod(0o6755)
    with connected(root) as client:
        assert client.getattr(client.walk("suid"))["mode"] & 0o7777 == 0o755
        client.setattr(client.walk("a"), 1, mode=0o4751)
        client.setattr(client.walk("d"), 1, mode=0o1777)
        client.clunk(client.create("new", mode=0o6711))
        for valid in (1, 2):
            fid = client.open("a")
            client.setattr(fid, valid, mode=0o700)
    assert {name: (root / name).stat().st_mode & 0o7777 for name in ("a", "d", "new")} == {
        "a": 0o700, "d": 0o1777, "new": 0o711,
    }  # fmt: skip


def test_times_and_attributes(root: Path) -> None:
    with connected(root) as client:
        fid = client.walk("a")
        before = (root / "a").stat()
        client.setattr(fid, 0x20 | 0x100, mtime=1_000_000_000)
        assert (root / "a").stat().st_mtime == 1_000_000_000
        assert (root / "a").stat().st_atime_ns == before.st_atime_ns
        client.setattr(fid, 0x20)
        assert abs((root / "a").stat().st_mtime - time.time()) < 60
        client.set_xattr("a", "user.colour", b"green")
        assert os.getxattr(root / "a", "user.colour") == b"green"
        assert client.get_xattr("a", "user.colour") == b"green"
        assert client.get_xattr("a", "") == b"user.colour\0"
        client.set_xattr("a", "user.colour", b"", flags=2)
        assert os.listxattr(root / "a") == []
        for name in ("security.capability", "system.posix_acl_access", "trusted.overlay.opaque"):
            with pytest.raises(RefusedError, match="not supported"):
                client.get_xattr("a", name)
        space = client.ask(T.STATFS, struct.pack("<I", fid))
        assert struct.unpack_from("<IIQ", space)[2] == os.statvfs(root).f_blocks


def test_what_a_file_is_changes_with_its_contents_only(root: Path) -> None:
    with connected(root) as client:

        def what(path: str) -> tuple[int, int]:
            got = client.getattr(client.walk(path))
            return got["path"], got["version"]

        file, folder = what("a"), what("d")
        assert file[1] != 0 != folder[1]
        client.rename("d", "dd")
        (root / "dd" / "more").write_bytes(b"")
        assert what("dd") == folder
        (root / "a").write_bytes(b"changed")
        assert what("a")[0] == file[0]
        assert what("a")[1] != file[1]


def test_a_file_is_what_it_was_under_another_name_that_the_guest_gives_it(root: Path) -> None:
    """The kernel has an inode of it, which may be watched, or open: another one beside that would have other contents."""
    with connected(root) as client:

        def what(path: str) -> tuple[int, int]:
            got = client.getattr(client.walk(path))
            return got["path"], got["version"]

        first = what("a")
        client.rename("a", "b")
        assert what("b") == first
        client.link(client.walk("b"), "c")
        assert what("b") == what("c") == first
        writer = client.open("b", O_WRONLY)
        client.rename("c", "a", to=client.walk("d"))
        client.clunk(writer)  # nothing was written
        assert what("b") == what("d/a") == first
        writer = client.open("b", O_WRONLY)
        client.write(writer, b"changed")
        client.clunk(writer)
        client.rename("b", "a")
        assert what("a") == what("d/a") == first
        (root / "a").write_bytes(b"changed by the user")
        client.rename("a", "b")
        assert what("b") != first


def test_host_moves_directories_under_the_guest(root: Path) -> None:
    with connected(root) as client:
        fid, deep = client.walk("d"), client.walk("d/e")
        assert client.getattr(deep)["size"] == 4
        (root / "d").rename(root / "elsewhere")
        (root / "d").mkdir()
        time.sleep(0.02)  # longer than a directory's descriptor is believed in
        with pytest.raises(RefusedError, match="No such file"):
            client.getattr(deep)
        client.mkdir("new", fid)
        assert (root / "d" / "new").is_dir()


def test_a_session_ends_with_the_next(root: Path) -> None:
    with serving(root) as connection:
        client = Client(connection)
        client.version()
        client.attach()
        fid = client.open("a")
        connection.sendall(struct.pack("<IBHI", 1000, T.WRITE, 1, fid) + b"half")  # and the sender is no more
        connection.sendall(MARK)
        client.send(T.VERSION, 0xFFFF, struct.pack("<I", 8192) + text("9P2000.L"))
        assert client._stream.read(8) == MARK
        assert client.receive()[0] == T.VERSION + 1
        client.attach()
        with pytest.raises(RefusedError, match="Bad file"):
            client.read(fid)
        assert client.version() == (1 << 20, b"9P2000.L")  # without any mark, too
        client.attach()


def test_a_flush_comes_after_what_it_flushes(root: Path) -> None:
    with connected(root) as client:
        fid = client.create("f")
        for tag in range(10, 40, 2):
            client.send(T.WRITE, tag, struct.pack("<IQI", fid, 0, 300_000) + bytes(300_000))
            client.send(T.FLUSH, tag + 1, struct.pack("<H", tag))
        tags = [client.receive()[1] for _ in range(30)]
        assert all(tags.index(tag) < tags.index(tag + 1) for tag in range(10, 40, 2))


def test_requests_go_on_beside_slow_ones(root: Path) -> None:
    with connected(root) as client:
        fids = [client.create(f"f{number}") for number in range(8)]
        data = os.urandom(200_000)
        for tag, fid in enumerate(fids):
            client.send(T.WRITE, tag, struct.pack("<IQI", fid, 0, len(data)) + data)
        client.send(T.GETATTR, 100, struct.pack("<IQ", 0, 0x7FF))
        for fid in fids:  # closed while they are being written
            client.send(T.CLUNK, 200 + fid, struct.pack("<I", fid))
        answers = [client.receive() for _ in range(17)]
        assert {kind for kind, _, _ in answers} == {T.WRITE + 1, T.GETATTR + 1, T.CLUNK + 1}
    assert all((root / f"f{number}").read_bytes() == data for number in range(8))


def test_read_only_is_read_only(root: Path) -> None:
    with connected(root, read_only=True) as client:
        assert client.read(client.open("a")) == b"hello"
        fid = client.walk("a")
        changes = [
            lambda: client.lopen(fid, O_WRONLY), lambda: client.lopen(fid, O_TRUNC), lambda: client.create("n"), lambda: client.mkdir("n"),
            lambda: client.symlink("n", "a"), lambda: client.mknod("n", stat.S_IFIFO), lambda: client.link(fid, "n"),
            lambda: client.rename("a", "n"), lambda: client.unlink("a"), lambda: client.unlink("d", flags=REMOVEDIR),
            lambda: client.setattr(fid, 1, mode=0o777), lambda: client.setattr(fid, 8), lambda: client.setattr(fid, 0x20),
            lambda: client.setattr(fid, 2, uid=7), lambda: client.set_xattr("a", "user.x", b"1"), lambda: client.write(fid, b"x"),
            lambda: client.ask(T.RENAME, struct.pack("<II", fid, 0) + text("n")), lambda: client.ask(T.REMOVE, struct.pack("<I", fid)),
        ]  # fmt: skip
        for change in changes:
            with pytest.raises(RefusedError, match="Read-only"):
                change()
    assert {path.name for path in root.iterdir()} == {"a", "d"}
    assert (root / "a").read_bytes() == b"hello"


def test_attributes_that_are_under_way_have_bounds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_XATTRS", 100_000)
    with connected(root) as client:
        name = text("user.x")
        first, second = client.walk("a"), client.walk("a")
        announced = name + struct.pack("<QI", 60_000, 0)
        client.ask(T.XATTRCREATE, struct.pack("<I", first) + announced)
        with pytest.raises(RefusedError, match="memory"):
            client.ask(T.XATTRCREATE, struct.pack("<I", second) + announced)
        with pytest.raises(RefusedError):
            client.clunk(first)  # less than what was announced
        client.ask(T.XATTRCREATE, struct.pack("<I", second) + announced)


def test_the_agent_hears_what_the_guest_changes(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "c.sock"
    listener = sockets.listen(place, 2)
    with connected(root, control=listener) as client:
        agent = sockets.connect(place, 20)
        agent.settimeout(20)
        agent.sendall(b'{"token": "t"}\n')
        lines = agent.makefile()
        assert json.loads(lines.readline()) == {"op": "listening"}
        fid = client.walk("d")
        client.mkdir("x", fid)
        assert json.loads(lines.readline()) == {"op": "create", "path": str(root / "d" / "x"), "to": ""}
        made = client.create("long", parent=fid)
        client.write(made, b"1")
        client.write(made, b"2", offset=1)
        assert [json.loads(lines.readline())["op"] for _ in range(2)] == ["create", "write"]
        with sockets.connect(place, 20) as another:
            another.settimeout(20)
            another.sendall(b'{"token": "t"}\n')
            heard = another.makefile()
            assert json.loads(heard.readline()) == {"op": "listening"}
            client.write(made, b"3", offset=2)
            client.clunk(made)
            said = [json.loads(heard.readline()) for _ in range(2)]
            assert [(one["op"], one["path"]) for one in said] == [
                (op, str(root / "d" / "long")) for op in ("write", "written")
            ]
        agent.sendall(b'{"token": "t"}\n')
        assert json.loads(lines.readline()) == {"op": "listening"}
        file = client.create("new", parent=fid)
        client.write(file, b"1")
        client.clunk(file)
        client.rename("a", "b")
        client.unlink("b")
        said = ""
        while '"delete"' not in said:
            said += lines.readline()
        assert json.dumps({"op": "move", "path": str(root / "a"), "to": str(root / "b")})[1:-1] in said
        assert said.index('"create"') < said.index('"written"') < said.index('"move"') < said.index('"delete"')
    agent.close()
    listener.close()
