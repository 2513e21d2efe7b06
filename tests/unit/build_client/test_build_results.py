"""What comes back from a build: folders and archives, from engines that do as they should and from others."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from cove.build.receiver import Archive, Folder, Output
from cove.build.session import Offer, Session
from coved.buildkit import filemode
from coved.buildkit import messages as m
from coved.grpc.status import GrpcError
from engine_side import calling

DAY = 86_400 * 10**9
ID = "buildkit-attachable-exporter-id"


def sent(output: Output, stats: Sequence[m.Stat], contents: dict[int, list[bytes]], *, number: int = 0) -> None:
    """An engine sends a folder. Raises `GrpcError`."""

    async def run() -> None:
        async with calling(Session(Offer(outputs={number: output})).services) as channel:
            async with channel.open(m.FILE_SEND_TREE, metadata=[(ID, str(number))]) as call:
                for each in stats:
                    await call.send(m.Packet(m.PACKET_STAT, each))
                await call.send(m.Packet(m.PACKET_STAT))
                async for packet in call:
                    if packet.type == m.PACKET_REQ:
                        for data in [*contents.get(packet.id, []), b""]:
                            await call.send(m.Packet(m.PACKET_DATA, id=packet.id, data=data))
                    elif packet.type == m.PACKET_FIN:
                        await call.send(m.Packet(m.PACKET_FIN), end=True)

    asyncio.run(run())


def folder(path: str, mode: int = 0o755) -> m.Stat:
    return m.Stat(path, filemode.to_go(stat.S_IFDIR | mode), mod_time=DAY)


def file(path: str, mode: int = 0o644, link: str = "") -> m.Stat:
    return m.Stat(path, mode, mod_time=DAY, linkname=link)


def symlink(path: str, target: str) -> m.Stat:
    return m.Stat(path, filemode.to_go(stat.S_IFLNK | 0o777), linkname=target, mod_time=DAY)


def test_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "new" / "out"
    stats = [
        folder("a", 0o500),
        file("a/x", filemode.to_go(stat.S_IFREG | 0o4711)),
        file("a/y", link="a/x"),
        file("empty"),
        symlink("link", "/etc/passwd"),
        m.Stat("pipe", filemode.to_go(stat.S_IFIFO | 0o600)),
    ]
    sent(Folder(root), stats, {1: [b"one ", b"two"]})
    assert (root / "a/x").read_bytes() == b"one two"
    assert (root / "a/x").stat().st_mode & 0o7777 == 0o4711
    assert (root / "a/y").samefile(root / "a/x")
    assert (root / "a/x").stat().st_mtime_ns == DAY
    assert (root / "a").stat().st_mode & 0o7777 == 0o500
    assert (root / "a").stat().st_mtime_ns == DAY
    assert (root / "empty").read_bytes() == b""
    assert (root / "link").readlink() == Path("/etc/passwd")
    assert (root / "pipe").is_fifo()
    (root / "a").chmod(0o700)


def test_a_folder_that_is_there_keeps_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/mine").write_text("mine")
    (tmp_path / "a/old").write_text("old and longer")
    (tmp_path / "b").symlink_to("a")
    sent(Folder(tmp_path), [folder("a"), file("a/old"), file("b")], {1: [b"new"], 2: [b"b"]})
    assert (tmp_path / "a/mine").read_text() == "mine"
    assert (tmp_path / "a/old").read_text() == "new"
    assert not (tmp_path / "b").is_symlink()


@pytest.mark.parametrize(
    "stats",
    [
        [file("../evil")],
        [file("/evil")],
        [file("a/../../evil")],
        [file("a//b")],
        [file("")],
        [file(".")],
        [file("evil\0")],
        [symlink("s", ".."), file("s/evil")],
        [file("b"), file("a")],
        [file("a"), file("a")],
        [file("a"), file("a/b")],
        [file("missing/b")],
        [file("h", link="../outside")],
        [file("h", link="nothing")],
        [file("h", link="h")],
        [folder("d"), file("h", link="d")],
        [symlink("s", "../outside"), file("t", link="s")],
        [file("outside-link", link="there/outside")],
    ],
)
def test_nothing_is_written_outside_of_the_folder(tmp_path: Path, stats: list[m.Stat]) -> None:
    (tmp_path / "outside").write_text("safe")
    root = tmp_path / "root"
    root.mkdir()
    (root / "there").symlink_to("..")
    with pytest.raises(GrpcError):
        sent(Folder(root), stats, {number: [b"evil"] for number in range(len(stats))})
    assert (tmp_path / "outside").read_text() == "safe"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "root"]
    assert (tmp_path / "outside").stat().st_nlink == 1


def test_a_link_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "d").symlink_to("../outside")
    sent(Folder(root), [folder("d"), file("d/x")], {1: [b"x"]})
    assert (root / "d/x").read_bytes() == b"x"
    assert not list((tmp_path / "outside").iterdir())


def test_contents_that_nobody_asked_for(tmp_path: Path) -> None:
    async def run() -> None:
        async with calling(Session(Offer(outputs={0: Folder(tmp_path)})).services) as channel:
            async with channel.open(m.FILE_SEND_TREE, metadata=[(ID, "0")]) as call:
                await call.send(m.Packet(m.PACKET_DATA, id=7, data=b"x"))
                with pytest.raises(GrpcError, match="invalid file request 7"):
                    await call.one()

    asyncio.run(run())


def archived(output: Output, chunks: Sequence[bytes], *, ends: bool = True) -> None:
    async def run() -> None:
        async with calling(Session(Offer(outputs={3: output})).services) as channel:
            async with channel.open(m.FILE_SEND_STREAM, metadata=[(ID, "3")]) as call:
                for chunk in chunks:
                    await call.send(m.BytesMessage(chunk))
                if ends:
                    await call.end()
                    assert await call.receive() is None

    asyncio.run(run())


def test_an_archive(tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    target.write_text("old")
    archived(Archive(target), [b"ab", b"c" * 100_000])
    assert target.read_bytes() == b"ab" + b"c" * 100_000
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert [path.name for path in tmp_path.iterdir()] == ["out.tar"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_half_an_archive_replaces_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    target.write_text("old")
    archived(Archive(target), [b"half"], ends=False)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.tar"]


def test_an_archive_for_a_device() -> None:
    archived(Archive(Path("/dev/null")), [b"x"])
    assert Path("/dev/null").is_char_device()


def test_an_archive_on_stdout(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    archived(Archive(None), [b"ab", b"c"])
    assert capfdbinary.readouterr().out == b"abc"


def test_an_output_that_is_none(tmp_path: Path) -> None:
    async def run() -> None:
        async with calling(Session(Offer(outputs={3: Folder(tmp_path)})).services) as channel:
            async with channel.open(m.FILE_SEND_TREE, metadata=[(ID, "1")]) as call:
                with pytest.raises(GrpcError, match="exporter 1 not found"):
                    await call.one()

    asyncio.run(run())
