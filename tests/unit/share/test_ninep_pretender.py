"""What the helper in the guest repeats of the host's changes succeeds, and changes nothing."""

from __future__ import annotations

import json
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from cove.local import sockets
from cove.share.ninep.pretender import PRETENDER_UID
from cove.share.ninep.wire import T
from ninep_client import O_EXCL, O_WRONLY, Client, RefusedError, connected, text

TOKEN = "5ec4e7"
HELPER = 1000
"""The helper's fid of the root; 0 is everybody else's."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    (folder / "d").mkdir(parents=True)
    (folder / "d" / "f").write_bytes(b"fine")
    return folder


@pytest.fixture(params=[False, True], ids=["read-write", "read-only"])
def client(root: Path, request: pytest.FixtureRequest) -> Iterator[Client]:
    listener = sockets.listen(root.parent / "control.sock", 1)
    with connected(root, read_only=request.param, control=listener) as client:
        agent = sockets.connect(root.parent / "control.sock", 20)
        agent.sendall(json.dumps({"token": TOKEN}).encode() + b"\n")
        client.attach(HELPER, PRETENDER_UID)
        agent.settimeout(20)
        assert b"listening" in agent.recv(100)
        yield client
    agent.close()
    listener.close()


def arm(client: Client, kind: str, path: str, to: str = "", *, token: str = TOKEN, **said: object) -> None:
    """Say what is about to be repeated; the refusal ECANCELED means that it is taken."""
    words = json.dumps({"token": token, "kind": kind, "path": path, "to": to, **said})
    with pytest.raises(RefusedError) as refused:
        client.symlink(".cove-pretend", words, HELPER)
    if refused.value.number != 125:
        raise refused.value


def told_size(client: Client, fid: int) -> int:
    """As fstatvfs(3) tells it the helper: the number of blocks."""
    blocks: int = struct.unpack_from("<Q", client.ask(T.STATFS, struct.pack("<I", fid)), 8)[0]
    return blocks


def fails(what: str) -> object:
    return pytest.raises(RefusedError, match=what)


def test_a_creation_is_repeated(client: Client, root: Path) -> None:
    with fails("No such file"):
        client.walk(".cove-pretend", HELPER)
    before = (root / "d" / "f").stat()
    fid = client.walk("d/f", HELPER)
    arm(client, "create", "d/f", real="d/f")
    for ask in (
        lambda: client.walk("d/f", HELPER),
        lambda: client.getattr(fid),
        lambda: client.walk("f", client.walk("d", HELPER)),
    ):
        with fails("No such file"):
            ask()
    assert client.read(client.open("d/f")) == b"fine"  # all others are told the truth
    made = client.create("f", O_WRONLY | O_EXCL, parent=client.walk("d", HELPER))
    again = client.walk("d/f", HELPER)
    assert client.getattr(made)["path"] == client.getattr(again)["path"] == client.getattr(client.walk("d/f"))["path"]
    assert client.getattr(again)["size"] == 4
    with fails("not permitted"):
        client.write(made, b"overwritten")
    client.clunk(made)
    with fails("not permitted"):
        client.create("f", O_WRONLY | O_EXCL, parent=client.walk("d", HELPER))
    assert (root / "d" / "f").read_bytes() == b"fine"
    assert (root / "d" / "f").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(("what", "kind"), [("dir", stat.S_IFDIR), ("symlink", stat.S_IFLNK), ("fifo", stat.S_IFIFO)])
def test_what_is_gone_again_is_created_as_a_ghost(client: Client, root: Path, what: str, kind: int) -> None:
    arm(client, "create", "new", real=None, what=what)
    if what == "dir":
        client.mkdir("new", HELPER)
    elif what == "symlink":
        client.symlink("new", "x", HELPER)
    else:
        client.mknod("new", stat.S_IFIFO, HELPER)
    assert stat.S_IFMT(client.getattr(client.walk("new", HELPER))["mode"]) == kind
    assert (
        not (root / "new").exists(follow_symlinks=False) if hasattr(Path, "walk") else not (root / "new").is_symlink()
    )
    with fails("No such file"):
        client.walk("new")
    fid = client.walk("new", HELPER)
    arm(client, "none", "x")
    with fails("No such file"):
        client.getattr(fid)


def test_a_deletion_is_repeated(client: Client, root: Path) -> None:
    arm(client, "delete", "gone/below/f", what="file")
    for path, kind in (("gone", stat.S_IFDIR), ("gone/below", stat.S_IFDIR), ("gone/below/f", stat.S_IFREG)):
        got = client.getattr(client.walk(path, HELPER))
        assert stat.S_IFMT(got["mode"]) == kind
        assert got["nlink"] == 1
    client.unlink("f", client.walk("gone/below", HELPER))
    with fails("No such file"):
        client.walk("gone/below/f", HELPER)
    arm(client, "delete", "d", what="dir")
    client.unlink("d", HELPER, 0x200)  # something else of that name is there by now
    with fails("No such file"):
        client.walk("d", HELPER)
    arm(client, "none", "x")
    assert (root / "d" / "f").read_bytes() == b"fine"
    with fails("not permitted"):
        client.unlink("f", client.walk("d", HELPER))


def test_a_move_is_repeated_and_takes_fids_along(client: Client, root: Path) -> None:
    fid = client.walk("d/f")
    (root / "d").rename(root / "e")
    arm(client, "move", "d", "e", real="e", what="dir")
    assert client.getattr(client.walk("d", HELPER))["path"] == client.getattr(client.walk("e"))["path"]
    with fails("No such file"):
        client.walk("e", HELPER)
    with fails("not permitted"):
        client.rename("d", "elsewhere", HELPER, HELPER)
    client.rename("d", "e", HELPER, HELPER)
    assert client.getattr(client.walk("e", HELPER))["path"] == client.getattr(client.walk("e"))["path"]
    assert client.getattr(fid)["size"] == 4
    client.lopen(fid)
    assert client.read(fid) == b"fine"


def test_a_move_over_a_file_that_was_looked_up_already(client: Client, root: Path) -> None:
    (root / "new").write_bytes(b"newer")
    fid = client.walk("new")
    (root / "new").replace(root / "d" / "f")
    early = client.walk("d/f")
    arm(client, "move", "new", "d/f", real="d/f", over=True)
    assert client.getattr(client.walk("d/f", HELPER))["size"] == 0  # a ghost, of what was replaced
    client.rename("new", "f", HELPER, client.walk("d", HELPER))
    for each in (fid, early):
        client.lopen(each)
        assert client.read(each) == b"newer"


def test_a_move_of_what_a_container_writes_by_its_new_name_already_is_left_to_its_kernel(
    client: Client, root: Path, request: pytest.FixtureRequest
) -> None:
    if "read-only" in request.node.name:
        return
    (root / "new").write_bytes(b"newer")
    known = client.walk("d/f")  # a name that the kernel remembers, with the inode of what was there
    (root / "new").replace(root / "d" / "f")
    arm(client, "move", "new", "d/f", real="d/f", over=True)
    client.lopen(known, O_WRONLY)
    with fails("[Bb]usy"):
        client.rename("new", "f", HELPER, client.walk("d", HELPER))
    with fails("[Bb]usy"):
        arm(client, "move", "new", "d/f", real="d/f", over=True)
    client.clunk(known)
    arm(client, "move", "new", "d/f", real="d/f", over=True)


def test_a_move_takes_along_who_writes_to_it(client: Client, root: Path, request: pytest.FixtureRequest) -> None:
    if "read-only" in request.node.name:
        return
    writer = client.walk("d/f")
    client.lopen(writer, O_WRONLY)
    (root / "d" / "f").rename(root / "g")
    arm(client, "move", "d/f", "g", real="g", over=True)
    client.rename("f", "g", client.walk("d", HELPER), HELPER)
    client.write(writer, b"FINE")
    assert (root / "g").read_bytes() == b"FINE"


def test_contents_and_attributes_are_never_changed(client: Client, root: Path) -> None:
    before = (root / "d" / "f").stat()
    fid = client.walk("d/f", HELPER)
    client.setattr(fid, 1 | 2 | 0x20, mode=0o777, uid=5)
    client.lopen(fid, O_WRONLY | 0o1000)
    with fails("stale|Stale"):
        client.setattr(fid, 8, size=0)
    client.setattr(fid, 8, size=told_size(client, fid))
    client.ask(T.FSYNC, struct.pack("<II", fid, 0))
    assert client.read(fid) == b""
    with fails("not permitted"):
        client.write(fid, b"x")
    assert client.getattr(fid)["size"] == 4
    client.clunk(fid)
    after = (root / "d" / "f").stat()
    assert (after.st_mtime_ns, after.st_mode, after.st_size) == (before.st_mtime_ns, before.st_mode, 4)
    assert client.getattr(client.walk("d/f"))["uid"] == 0
    assert client.names("d") == {b"f"}


def test_the_helper_changes_nothing_else(client: Client, root: Path) -> None:
    fid, other = client.walk("d/f", HELPER), client.walk("d/f")
    for ask in (
        lambda: client.create("n", parent=HELPER), lambda: client.mkdir("n", HELPER), lambda: client.symlink("n", "x", HELPER),
        lambda: client.link(fid, "n", HELPER), lambda: client.rename("d", "n", HELPER, HELPER), lambda: client.unlink("d", HELPER, 0x200),
        lambda: client.ask(T.REMOVE, struct.pack("<I", fid)), lambda: client.ask(T.RENAME, struct.pack("<II", fid, HELPER) + text("n")),
        lambda: client.ask(T.XATTRCREATE, struct.pack("<I", fid) + text("user.x") + struct.pack("<QI", 0, 0)),
        lambda: client.symlink(".cove-pretend", "{}", client.walk("d", HELPER)),
    ):  # fmt: skip
        with fails("not permitted"):
            ask()
    for ask in (
        lambda: client.link(fid, "n"),
        lambda: client.rename("d", "n", 0, HELPER),
        lambda: client.rename("d", "n", HELPER, 0),
        lambda: client.link(other, "n", HELPER),
    ):
        with pytest.raises(RefusedError):
            ask()
    assert [path.name for path in root.iterdir()] == ["d"]


def test_what_a_container_writes_is_left_to_its_kernel(
    client: Client, root: Path, request: pytest.FixtureRequest
) -> None:
    if "read-only" in request.node.name:
        with fails("[Rr]ead-only"):
            client.lopen(client.walk("d/f"), O_WRONLY)
        return
    writer = client.walk("d/f")
    before = client.getattr(writer)["version"]
    client.lopen(writer, O_WRONLY)
    client.write(writer, b"longer by some")
    assert client.getattr(client.walk("d/f"))["version"] == before, (
        "the kernel has pages to write, and must keep their inode"
    )
    fid = client.walk("d/f", HELPER)
    with fails("[Bb]usy"):
        client.lopen(fid, O_WRONLY)
    with fails("[Bb]usy"):
        client.setattr(fid, 8, size=told_size(client, fid))
    with fails("[Bb]usy"):
        arm(client, "create", "d/f", real="d/f", what="file")
    with fails("not permitted"):
        client.mknod("f", 0o100644, client.walk("d", HELPER))
    client.clunk(writer)
    assert client.getattr(client.walk("d/f"))["version"] != before, "it has missed something, perhaps"
    before = client.getattr(client.walk("d/f"))["version"]
    client.lopen(fid, O_WRONLY)
    writer = client.walk("d/f")
    client.lopen(writer, O_WRONLY)
    client.write(writer, b"longer")
    client.write(fid, b" still", offset=14)  # the kernel takes any descriptor for its pages
    client.clunk(writer)
    assert (root / "d/f").read_bytes() == b"longer by some still"
    with fails("not permitted"):
        client.write(fid, b"x")
    assert client.getattr(client.walk("d/f"))["version"] == before, "nobody else has changed it"
    client.setattr(client.walk("d/f"), 1, mode=0o600)
    assert client.getattr(client.walk("d/f"))["version"] == before
    client.setattr(fid, 8, size=told_size(client, fid))
    writer = client.walk("d/f")
    client.lopen(writer, O_WRONLY)
    (root / "d/f").write_bytes(b"by the user")
    client.clunk(writer)
    assert client.getattr(client.walk("d/f"))["version"] != before
    with fails("[Ss]tale"):
        client.setattr(fid, 8, size=len(b"longer by some"))
    assert told_size(client, fid) == len(b"by the user")
    looked_up = client.walk("d/f")
    (root / "d/saved").write_bytes(b"as editors save")
    (root / "d/saved").replace(root / "d/f")
    client.setattr(looked_up, 1, mode=0o640)  # by a name that the kernel remembers
    client.lopen(looked_up, O_WRONLY)
    client.write(looked_up, b"AS")
    client.clunk(looked_up)
    assert (root / "d/f").read_bytes() == b"AS editors save"
    arm(client, "create", "d/f", real="d/f", what="file")


BAD = [
    "", "[]", "{", "null", '"x"', "[" * 4000, json.dumps({"token": TOKEN}), json.dumps({"token": 5, "kind": "none"}),
    *(json.dumps({"token": TOKEN, "kind": "create", "path": path}) for path in ("", "/etc", "../x", "a//b", "a\0b", 7, None, "x" * 300)),
    json.dumps({"token": TOKEN, "kind": "move", "path": "a"}),
    json.dumps({"token": TOKEN, "kind": "create", "path": "a", "what": "device"}),
    json.dumps({"token": TOKEN, "kind": "create", "path": "a", "real": ".."}),
    json.dumps({"token": "wrong", "kind": "create", "path": "a"}),
]  # fmt: skip


@pytest.mark.parametrize("words", BAD)
def test_bad_words_arm_nothing(client: Client, words: str) -> None:
    with fails("not permitted"):
        client.symlink(".cove-pretend", words, HELPER)
    with fails("not permitted"):
        client.mkdir("a", HELPER)
