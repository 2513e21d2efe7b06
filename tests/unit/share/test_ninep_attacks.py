"""Nothing outside of the folder is reachable, however the guest asks, and no message harms the server."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cove.share.ninep import session as sessions
from cove.share.ninep.folder import Folder
from cove.share.ninep.host import host
from cove.share.ninep.pretender import PRETENDER_UID
from cove.share.ninep.tree import Tree
from cove.share.ninep.wire import KNOWN, T
from coved.shares.pump import MARK
from ninep_client import NONE, O_RDWR, O_TRUNC, O_WRONLY, Client, RefusedError, connected, serving, text
from open_descriptors import open_descriptors

SECRET = b"not for the guest"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder beside which lies what must stay unread and unchanged."""
    (tmp_path / "secret").write_bytes(SECRET)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    folder = tmp_path / "share"
    (folder / "d").mkdir(parents=True)
    (folder / "d" / "f").write_bytes(b"fine")
    return folder


@pytest.fixture(autouse=True)
def nothing_outside_has_changed(root: Path) -> object:
    yield
    assert sorted(path.name for path in root.parent.iterdir()) == ["outside", "secret", "share"]
    assert [path.name for path in (root.parent / "outside").iterdir()] == ["secret"]
    for secret in (root.parent / "secret", root.parent / "outside" / "secret"):
        assert secret.read_bytes() == SECRET
        assert stat.S_IMODE(secret.stat().st_mode) == (0o644 if os.name == "posix" else 0o666)


BAD_NAMES = [b"", b".", b"..", b"/", b"../secret", b"d/f", b"/etc/passwd", b"a\0b", b"\0", b"d/../../secret"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_are_names(root: Path, name: bytes) -> None:
    with connected(root) as client:
        client.create("mine")
        fid, number = client.walk("d/f"), 77
        asked = [
            lambda: client.ask(T.WALK, struct.pack("<IIH", 0, number, 1) + text(name)),
            lambda: client.ask(T.WALK, struct.pack("<IIH", 0, number, 2) + text("d") + text(name)),
            lambda: client.create(name), lambda: client.mkdir(name), lambda: client.symlink(name, "x"), lambda: client.mknod(name, 0o10644),
            lambda: client.link(fid, name), lambda: client.rename(name, "x"), lambda: client.rename("mine", name),
            lambda: client.unlink(name), lambda: client.unlink(name, flags=0x200),
            lambda: client.ask(T.RENAME, struct.pack("<II", fid, 0) + text(name)),
        ]  # fmt: skip
        for ask in asked:
            with pytest.raises(RefusedError, match="Invalid"):
                ask()
        assert client.names() == {b"d", b"mine"}
        for target in (b"a\0b", b"x" * 5000):
            with pytest.raises(RefusedError):
                client.symlink("new", target)


def test_links_lead_nowhere(root: Path) -> None:
    with connected(root) as client:
        for name, target in {
            "file": "../secret",
            "abs": str(root.parent / "secret"),
            "dir": "../outside",
            "root": "/",
            "self": "/proc/self/root",
        }.items():
            client.symlink(name, target)
            fid = client.walk(name)
            for flags in (0, O_WRONLY, O_RDWR | O_TRUNC):
                with pytest.raises(RefusedError):
                    client.lopen(fid, flags)
            with pytest.raises(RefusedError):
                client.setattr(fid, 8)
            with pytest.raises(RefusedError):
                client.setattr(fid, 1, mode=0o777)
            client.setattr(fid, 0x20 | 0x100, mtime=5)  # the link's own
            client.setattr(fid, 2, uid=5)
            for ask in (
                lambda name=name: client.walk(f"{name}/secret"), lambda fid=fid: client.walk("secret", fid),
                lambda fid=fid: client.create("n", parent=fid), lambda fid=fid: client.mkdir("n", fid),
                lambda fid=fid: client.unlink("secret", fid), lambda fid=fid: client.rename("d", "n", 0, fid),
                lambda fid=fid: client.rename("secret", "stolen", fid, 0), lambda name=name: client.create(name, O_TRUNC),
                lambda name=name: client.set_xattr(name, "user.x", b"1"),
            ):  # fmt: skip
                with pytest.raises(RefusedError):
                    ask()
            client.link(fid, f"{name}-again")  # a second name of the link
            assert stat.S_ISLNK(client.getattr(client.walk(f"{name}-again"))["mode"])
        assert os.listxattr(root.parent / "secret") == []
        assert (root.parent / "secret").stat().st_mtime > 5


def test_a_directory_swapped_for_a_link_leads_nowhere(root: Path) -> None:
    """Somebody on the host changes places, as fast as they can, while the guest tries everything below."""
    (root / "link").symlink_to("../outside")
    (root / "d" / "secret").write_bytes(b"fine")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for pair in (("d", "away"), ("link", "d"), ("d", "link"), ("away", "d")):
                with contextlib.suppress(OSError):
                    (root / pair[0]).rename(root / pair[1])

    swapper = threading.Thread(target=swap)
    with connected(root) as client:
        below = client.walk("d")
        swapper.start()
        try:
            reached = 0
            end = time.monotonic() + 1.5
            while time.monotonic() < end or not reached:
                for attack in range(7):
                    with contextlib.suppress(RefusedError):
                        if attack == 0:
                            fid = client.open("d/secret")
                            assert client.read(fid) == b"fine"
                            client.clunk(fid)
                            reached += 1
                        elif attack == 1:
                            client.clunk(client.create("new", parent=below))
                        elif attack == 2:
                            client.unlink("new", below)
                        elif attack == 3:
                            client.mkdir("folder", below)
                        elif attack == 4:
                            client.setattr(client.walk("secret", below), 1, mode=0o777)
                        elif attack == 5:
                            client.rename("new", "moved", below, below)
                        else:
                            assert b"secret" not in client.names("link")
        finally:
            stop.set()
            swapper.join()
        assert reached


def test_a_file_swapped_for_a_link_or_pipe_is_not_opened(root: Path) -> None:
    target = root / "d" / "f"
    (root / "link").symlink_to("../secret")
    os.mkfifo(root / "pipe")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for other in ("link", "pipe"):
                with contextlib.suppress(OSError):
                    target.rename(root / "away")
                    (root / other).rename(target)
                    target.rename(root / other)
                    (root / "away").rename(target)

    swapper = threading.Thread(target=swap)
    with connected(root) as client:
        swapper.start()
        try:
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                with contextlib.suppress(RefusedError):
                    fid = client.open("d/f", O_RDWR)
                    assert client.read(fid) == b"fine"
                    client.clunk(fid)
                with contextlib.suppress(RefusedError):
                    client.setattr(client.walk("d/f"), 1, mode=0o666)
        finally:
            stop.set()
            swapper.join()


def test_moving_directories_about_reaches_nothing(root: Path) -> None:
    with connected(root) as client:
        for name in ("a", "b"):
            client.mkdir(name)
        a = client.walk("a")
        client.mkdir("x", a)
        x = client.walk("a/x")
        client.rename("a", "inner", 0, client.walk("b"))
        client.rename("x", "up", a, 0)
        client.mkdir("here", x)
        assert (root / "up" / "here").is_dir()
        with pytest.raises(RefusedError, match="Invalid"):
            client.rename("b", "in-itself", 0, client.walk("b/inner"))
        with pytest.raises(RefusedError):
            client.ask(T.RENAME, struct.pack("<II", 0, x) + text("root"))
        with pytest.raises(RefusedError):
            client.ask(T.REMOVE, struct.pack("<I", client.walk()))


def test_numbers_are_not_reused(root: Path) -> None:
    with connected(root) as client:
        fid = client.open("d/f", O_RDWR)
        for number in (fid, NONE):
            with pytest.raises(RefusedError, match="Bad file"):
                client.ask(T.WALK, struct.pack("<IIH", 0, number, 0))
        with pytest.raises(RefusedError, match="Bad file"):
            client.attach(fid)
        with pytest.raises(RefusedError, match="Bad file"):
            client.lopen(fid)
        with pytest.raises(RefusedError):
            client.ask(T.WALK, struct.pack("<IIH", fid, fid, 1) + text("d"))
        client.clunk(fid)
        for ask in (
            lambda: client.read(fid),
            lambda: client.write(fid, b"x"),
            lambda: client.clunk(fid),
            lambda: client.getattr(fid),
        ):
            with pytest.raises(RefusedError, match="Bad file"):
                ask()
        directory = client.open("d")
        for ask in (
            lambda: client.read(directory),
            lambda: client.write(directory, b"x"),
            lambda: client.lopen(client.walk("d"), O_WRONLY),
        ):
            with pytest.raises(RefusedError):
                ask()


def test_kernels_file_systems_are_not_served() -> None:
    with connected(Path("/")) as client:
        for path in ("proc/self", "proc/1/root", "sys/kernel"):
            with pytest.raises(RefusedError):
                client.walk(path)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="making a device takes root")
def test_devices_are_not_opened(root: Path) -> None:
    os.mknod(root / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with connected(root) as client:
        fid = client.walk("zero")
        assert client.getattr(fid)["rdev"] == 0
        for flags in (0, O_RDWR):
            with pytest.raises(RefusedError, match="denied"):
                client.lopen(fid, flags)
        with pytest.raises(RefusedError, match="denied"):
            client.create("zero", O_RDWR)


def test_fids_and_files_are_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_FIDS", 50)
    monkeypatch.setattr(sessions, "MAX_LISTED", 2000)
    with connected(root) as client:
        for number in range(40):
            client.mkdir(f"{number}")
        first = client.open("")
        assert client.readdir(first)
        second = client.open("")
        with pytest.raises(RefusedError, match="memory"):
            client.readdir(second)
        client.clunk(first)
        assert client.readdir(second)
        with pytest.raises(RefusedError, match="Too many"):
            for _ in range(60):
                client.walk("d")
        client.clunk(second)
        client.walk("d")


def test_descriptors_of_directories_are_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cove.share.ninep.tree.MAX_DESCRIPTORS", 20)
    with connected(root) as client:
        before = descriptors()
        fids = []
        for number in range(100):
            client.mkdir(f"n{number}")
            fid = client.walk(f"n{number}")
            client.mkdir("below", fid)
            fids.append(fid)
        deep = 0
        for _ in range(100):
            client.mkdir("deep", deep)
            deep = client.walk("deep", deep)
        client.clunk(client.create("file", parent=deep))
        client.getattr(deep)
        client.getattr(0)  # what a request has opened is closed by the next
        assert descriptors() < before + 30
        for fid in fids:
            client.unlink("below", fid, 0x200)
    assert descriptors() < before


def descriptors() -> int:
    return open_descriptors()


@contextlib.contextmanager
def folder_of(root: Path) -> Iterator[Folder]:
    descriptor = host.open_root(root)
    folder = Folder(descriptor)
    try:
        yield folder
    finally:
        folder.close()
        host.close(descriptor)


def test_a_held_directory_that_is_one_no_more_is_let_go(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows an empty one can become a junction, and stays the same file."""
    monkeypatch.setattr("cove.share.ninep.tree.FRESH_S", 0.0)
    look, open_directory = host.look_at, host.open_directory
    with folder_of(root) as folder:
        node = folder.tree.child(folder.tree.root, b"d")
        folder.tree.hold(node)
        folder.tree.directory(node)
        opened: list[bytes] = []
        with monkeypatch.context() as patched:
            patched.setattr(host, "look_at", lambda *place: look(*place)._replace(mode=stat.S_IFLNK | 0o777))
            patched.setattr(
                host, "open_directory", lambda parent, name: opened.append(name) or open_directory(parent, name)
            )
            folder.tree.directory(node)
        assert opened == [b"d"]


def test_directories_that_hold_others_back_are_let_go_while_others_are_asked_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Windows' do: those that nobody asks for, and all for a directory's new name, but not for a file's."""
    now = [1000.0]
    monkeypatch.setattr("cove.share.ninep.tree.time.monotonic", lambda: now[0])
    monkeypatch.setattr(host, "HOLDS_BACK", True)
    (root / "a").mkdir()
    (root / "b").mkdir()
    with folder_of(root) as folder:
        nodes = [folder.tree.child(folder.tree.root, name) for name in (b"a", b"b", b"d")]
        for node in nodes:
            folder.tree.hold(node)
            folder.tree.directory(node)

        def held() -> list[bytes]:
            return [node.name for node in nodes if node.descriptor >= 0]

        folder.rename(nodes[2], b"f", folder.tree.root, b"g")
        folder.tree.settle()
        assert held() == [b"a", b"b", b"d"]
        for _ in range(2):
            now[0] += 0.15
            folder.tree.directory(nodes[1])
            folder.tree.settle()
        assert held() == [b"b"]
        folder.rename(folder.tree.root, b"a", folder.tree.root, b"c")
        assert held() == []


def test_a_tree_has_no_circles(root: Path) -> None:
    """The host moves what the guest moves as well: what the two together make of it has an end."""
    descriptor = host.open_root(root)
    tree = Tree(descriptor)
    a = tree.child(tree.root, b"a")
    b = tree.child(a, b"b")
    tree.hold(b)
    tree.moved(tree.root, b"a", b, b"c")  # the host had moved b out of a before
    assert a.gone
    with pytest.raises(FileNotFoundError):
        b.path()
    tree.close()
    host.close(descriptor)


def test_malformed_messages_are_refused(root: Path) -> None:
    with connected(root) as client:
        for kind in sorted(KNOWN - {T.VERSION, T.FLUSH}):
            for body in (
                b"",
                b"\0",
                struct.pack("<I", 0),
                struct.pack("<IH", 0, 0xFFFF),
                struct.pack("<IIH", 0, 99, 17),
                struct.pack("<I", 0) + b"\xff" * 3,
            ):
                client.send(kind, 5, body)
                got, tag, _ = client.receive()
                assert tag == 5
                assert got in (7, kind + 1)
                if kind in (T.CLUNK, T.REMOVE, T.XATTRCREATE) and len(body) >= 4:
                    client.version()
                    client.attach()
        with pytest.raises(RefusedError, match="Invalid"):
            client.ask(T.WRITE, struct.pack("<IQI", client.create("f"), 0, 1 << 31) + b"short")
        fid = client.open("d/f", O_RDWR)
        for offset in (1 << 63, (1 << 64) - 1):
            for ask in (
                lambda offset=offset: client.read(fid, offset),
                lambda offset=offset: client.write(fid, b"x", offset),
                lambda offset=offset: client.setattr(fid, 8, size=offset),
            ):
                with pytest.raises(RefusedError):
                    ask()
        assert client.read(fid) == b"fine"


@pytest.mark.parametrize("seed", range(4))
def test_noise_is_survived(root: Path, seed: int) -> None:
    """Messages that are nearly right, and then bytes that are none: the next session is served."""
    noise = random.Random(seed)
    stem = [b"d", b"f", b"..", b"", b"/", b"x" * 300, b"\xff", b"new", b".cove-pretend"]
    with serving(root) as connection:
        client = Client(connection)
        client.version(65536)
        client.attach()
        answered = threading.Event()

        def drain() -> None:  # until the answer to the mark and to what comes after it
            seen = b""
            while not (MARK in seen and seen.endswith(b"9P2000.L")):
                seen = seen[-100:] + connection.recv(1 << 16)
            answered.set()

        threading.Thread(target=drain, daemon=True).start()
        for _ in range(1500):
            kind = noise.choice(sorted(KNOWN - {T.VERSION}))
            body = struct.pack("<I", noise.randrange(6))
            for _ in range(noise.randrange(5)):
                body += noise.choice([
                    struct.pack("<I", noise.choice([0, 1, 2, 3, 5, 0x8241, NONE])), text(noise.choice(stem)),
                    struct.pack("<Q", noise.choice([0, 7, 1 << 20, 1 << 63])), struct.pack("<H", noise.randrange(3)),
                    noise.randbytes(noise.randrange(20)),
                ])  # fmt: skip
            connection.sendall(struct.pack("<IBH", 7 + len(body), kind, noise.randrange(50)) + body)
        for _ in range(30):
            connection.sendall(noise.randbytes(noise.randrange(2000)))
        connection.sendall(MARK)
        client.send(T.VERSION, 0xFFFF, struct.pack("<I", 8192) + text("9P2000.L"))
        assert answered.wait(20)
        client.attach()
        with contextlib.suppress(RefusedError):  # the noise may have removed it
            client.clunk(client.walk("d"))
        client.getattr(0)


def test_a_process_serves_and_is_confined(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    ours, theirs = socket.socketpair()
    control = tmp_path_factory.mktemp("c") / "s"
    command = [
        sys.executable,
        "-m",
        "cove.share.ninep",
        "--fd",
        str(theirs.fileno()),
        "--root",
        str(root),
        "--control",
        str(control),
        "--owner",
        "501:20",
    ]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as process:
        theirs.close()
        client = Client(ours)
        client.version()
        client.attach()
        got = client.getattr(client.walk("d/f"))
        assert (got["uid"], got["gid"]) == (501, 20)
        client.clunk(client.create("made", mode=0o666))
        client.setattr(client.walk("made"), 1, mode=0o640)
        client.rename("made", "moved", 0, client.walk("d"))
        client.set_xattr("d/moved", "user.x", b"1")
        assert stat.S_IMODE((root / "d" / "moved").stat().st_mode) == 0o640
        assert stat.S_IMODE(control.stat().st_mode) & 0o077 == 0
        assert "NoNewPrivs:\t1" in Path(f"/proc/{process.pid}/status").read_text()
        with socket.socket(socket.AF_UNIX) as agent:
            agent.settimeout(20)
            agent.connect(str(control))
            agent.sendall(b'{"token": "t"}\n')
            lines = agent.makefile()
            assert json.loads(lines.readline()) == {"op": "listening"}
            client.attach(1000, PRETENDER_UID)
            with pytest.raises(RefusedError) as error:
                client.symlink(".cove-pretend", '{"token": "t", "kind": "delete", "path": "gone"}', 1000)
            assert error.value.number == errno.ECANCELED
            client.unlink("gone", 1000)
            client.unlink("moved", client.walk("d"))
            assert json.loads(lines.readline()) == {"op": "delete", "path": f"{root}/d/moved", "to": ""}
        ours.shutdown(socket.SHUT_RDWR)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    ours.close()
