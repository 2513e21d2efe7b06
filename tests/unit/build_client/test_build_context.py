"""A folder of the user's, as it goes to the engine."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cove.build.sender import values
from cove.build.session import Offer, Session
from cove.build.tree import Selection, Tree
from coved.buildkit import messages as m
from coved.grpc.status import Code, GrpcError
from engine_side import calling, fetch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    for name in ("a/b/deep.txt", "a/skip.md", "a.txt", "a-b", "node/x/y.js", "z.md"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def listed(root: Path, includes: Sequence[str] = (), excludes: Sequence[str] = ()) -> list[str]:
    return [entry.path for entry in Tree(root).walk(Selection(includes, excludes))]


def test_entries_come_in_gos_order(folder: Path) -> None:
    assert listed(folder) == [
        "a", "a/b", "a/b/deep.txt", "a/skip.md", "a-b", "a.txt", "node", "node/x", "node/x/y.js", "z.md",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("includes", "excludes", "found"),
    [
        ([], ["*.md"], ["a", "a/b", "a/b/deep.txt", "a/skip.md", "a-b", "a.txt", "node", "node/x", "node/x/y.js"]),
        ([], ["**/*.md", "node"], ["a", "a/b", "a/b/deep.txt", "a-b", "a.txt"]),
        ([], ["*", "!a/b"], ["a", "a/b", "a/b/deep.txt"]),
        ([], ["node", "!node/x/y.js"], ["a", "a/b", "a/b/deep.txt", "a/skip.md", "a-b", "a.txt", "node", "node/x", "node/x/y.js", "z.md"]),
        (["a/b", "z*"], [], ["a", "a/b", "a/b/deep.txt", "z.md"]),
        (["a"], ["a/b"], ["a", "a/skip.md"]),
        (["*.txt"], [], ["a.txt"]),
        (["**/*.js"], [], ["node", "node/x", "node/x/y.js"]),
        (["nothing"], [], []),
    ],
)  # fmt: skip
def test_patterns(folder: Path, includes: list[str], excludes: list[str], found: list[str]) -> None:
    assert listed(folder, includes, excludes) == found


def test_what_is_left_out_with_all_in_it_is_not_even_looked_into(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = Tree._list

    def noted(self: Tree, path: str, *, wanted: bool) -> object:
        seen.append(path)
        return real(self, path, wanted=wanted)

    monkeypatch.setattr(Tree, "_list", noted)
    listed(folder, [], ["node"])
    assert seen == ["", "a", "a/b"]
    seen.clear()
    listed(folder, ["a/skip.md"])
    assert seen == ["", "a"]


def test_kinds_and_modes(folder: Path) -> None:
    (folder / "a.txt").chmod(0o4755)
    os.link(folder / "a-b", folder / "b-hard")
    (folder / "link").symlink_to("a.txt")
    os.mkfifo(folder / "pipe", 0o640)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        found = {entry.path: entry for entry in Tree(folder).walk(Selection())}
    assert found["a"].mode & 1 << 31  # of Go
    assert found["a"].size == 0
    assert found["a.txt"].mode == 1 << 23 | 0o755
    assert found["a.txt"].size == 5
    assert found["a.txt"].modified == (folder / "a.txt").stat().st_mtime_ns
    assert (found["b-hard"].link, found["b-hard"].size) == ("a-b", 0)
    assert found["b-hard"].regular
    assert found["link"].mode == 1 << 27 | 0o777
    assert found["link"].link == "a.txt"
    assert found["pipe"].mode == 1 << 25 | 0o640
    assert not found["pipe"].regular
    assert found["socket"].regular


def test_a_hard_link_to_what_is_left_out_is_a_file_of_its_own(folder: Path) -> None:
    os.link(folder / "a-b", folder / "b-hard")
    found = {entry.path: entry for entry in Tree(folder).walk(Selection(excludes=["a-b"]))}
    assert (found["b-hard"].link, found["b-hard"].size) == ("", 3)


def test_very_deep_folders(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1200):
            os.mkdir("d", dir_fd=here)
            inner = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
    finally:
        os.close(here)
    try:
        assert len(listed(tmp_path)) == 1200
    finally:
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # pytest's own way of removing it recurses


def test_links_are_followed(folder: Path) -> None:
    (folder / "link").symlink_to("a")
    (folder / "absolute").symlink_to("/node")
    (folder / "loop").symlink_to("loop")
    (folder / "out").symlink_to("../../..")
    tree = Tree(folder)
    assert tree.followed(["a.txt", "nothing"]) == ["a.txt", "nothing"]
    assert tree.followed(["link/b"]) == ["a/b", "link"]
    assert tree.followed(["absolute/x", "node"]) == ["absolute", "node"]
    assert tree.followed(["lin*"]) == ["a", "lin*"]
    (folder / "a" / "back").symlink_to("../node/x")
    assert tree.followed(["a/ba*"]) == ["a/ba*", "node/x"]
    assert tree.followed(["loop/x"]) == ["loop"]
    assert tree.followed(["."]) is None
    assert tree.followed(["out"]) is None
    assert tree.followed(["../a.txt", "/z.md"]) == ["a.txt", "z.md"]


def test_a_tree_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Tree(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        Tree(tmp_path / "file")


def session(folder: Path) -> Session:
    return Session(Offer(trees={"context": Tree(folder)}))


def test_an_engine_gets_what_it_asks_for(folder: Path) -> None:
    big = os.urandom(3_000_001)
    (folder / "big").write_bytes(big)
    (folder / "empty").write_bytes(b"")

    async def run() -> None:
        async with calling(session(folder).services) as channel:
            stats, contents = await fetch(channel, "context", metadata=[("exclude-patterns", "*.md")])
            assert [each.path for each in stats][:3] == ["a", "a/b", "a/b/deep.txt"]
            assert all(each.uid == each.gid == 0 for each in stats)
            assert contents["big"] == big
            assert contents["empty"] == b""
            assert contents["a/b/deep.txt"] == b"a/b/deep.txt"
            assert "z.md" not in contents
            stats, contents = await fetch(channel, "context", metadata=[("followpaths", "node")], wanted=[])
            assert [each.path for each in stats] == ["node", "node/x", "node/x/y.js"]
            assert not contents

    asyncio.run(run())


def test_many_small_files(tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"{number:04}").write_text(str(number))

    async def run() -> None:
        async with calling(session(tmp_path).services) as channel:
            _, contents = await fetch(channel, "context")
            assert contents == {f"{number:04}": str(number).encode() for number in range(1500)}

    asyncio.run(run())


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe")
    (tmp_path / name).write_text("odd")

    async def run() -> None:
        async with calling(session(tmp_path).services) as channel:
            stats, contents = await fetch(channel, "context")
            assert [each.path for each in stats] == [name]
            assert contents == {name: b"odd"}

    asyncio.run(run())


def test_files_that_change_meanwhile(folder: Path) -> None:
    """An engine has been told of a file; when it asks, the file is another, a link, or not there any more."""

    async def run() -> None:
        async with calling(session(folder).services) as channel:
            async with channel.open(m.FILE_SYNC, metadata=[("dir-name", "context")]) as call:
                stats: list[str] = []
                async for packet in call:
                    if packet.type == m.PACKET_STAT and packet.stat is None:
                        break
                    assert packet.stat is not None
                    stats.append(packet.stat.path)
                (folder / "a.txt").write_text("longer than it was")
                (folder / "a-b").unlink()
                (folder / "z.md").unlink()
                (folder / "z.md").symlink_to("a.txt")
                got: dict[str, bytes] = {}
                for path in ("a.txt", "a-b", "z.md"):
                    await call.send(m.Packet(m.PACKET_REQ, id=stats.index(path)))
                    got[path] = b""
                    while (packet := await call.one()).data:
                        got[path] += packet.data
                assert got == {"a.txt": b"longer than it was", "a-b": b"", "z.md": b""}

    asyncio.run(run())


def test_an_engine_that_asks_for_what_is_not_there(folder: Path) -> None:
    async def refused(name: str, metadata: list[tuple[str, str]], packet: m.Packet | None) -> GrpcError:
        async with calling(session(folder).services) as channel:
            with pytest.raises(GrpcError) as caught:
                async with channel.open(m.FILE_SYNC, metadata=[("dir-name", name), *metadata]) as call:
                    if packet is not None:
                        await call.send(packet)
                    async for _ in call:
                        pass
            return caught.value

    error = asyncio.run(refused("elsewhere", [], None))
    assert (error.code, error.message) == (Code.NOT_FOUND, 'no access allowed to dir "elsewhere"')
    assert asyncio.run(refused("context", [], m.Packet(m.PACKET_REQ, id=99))).message == "invalid file id 99"
    assert "syntax error" in asyncio.run(refused("context", [("exclude-patterns", "[")], None)).message
    error = asyncio.run(refused("context", [], m.Packet(m.PACKET_ERR, data=b"disk full")))
    assert error.message == "error from receiver: disk full"


def test_a_folder_that_cannot_be_read_fails_the_build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.iterdir

    def refuse(self: Path) -> Iterator[Path]:
        if self.name == "a":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(PermissionError):
        listed(folder)
    assert "z.md" in listed(folder, [], ["a", "!a/b"])


def test_a_file_that_cannot_be_read_fails_the_build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Tree, path: str) -> int:
        raise PermissionError(13, "Permission denied", str(self.root / path))

    monkeypatch.setattr(Tree, "open", refuse)

    async def run() -> None:
        async with calling(session(folder).services) as channel:
            with pytest.raises(AssertionError, match=r"open .*deep.txt: permission denied"):
                await fetch(channel, "context")

    asyncio.run(run())


def test_texts_that_are_not_ascii() -> None:
    metadata = [("followpaths", "a%C3%A4+b"), ("followpaths", "c"), ("followpaths-encoded", "1"), ("x", "a+b")]
    assert values(metadata, "followpaths") == ["aä b", "c"]
    assert values(metadata, "x") == ["a+b"]
