"""Archives of volumes where it takes more than a client of the engine can do: by the modules, as the engine calls them."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from coved.errors import EngineError
from coved.events import Events
from coved.files import volume_archives
from coved.files.volume_archives import VolumeArchives
from coved.images import extract
from coved.images.tar import BadArchive
from coved.store.database import Database
from coved.store.trees import remove_tree
from coved.volumes import Volumes
from coved.volumes.mounting import clear_mounts

pytestmark = [pytest.mark.root, pytest.mark.native]


def carried(root: Path, *, levels: int = 1, width: int = 1, attribute: int = 0) -> tuple[Path, Path]:
    """A volume of nested folders, of which the last has further ones; and what it is after an export and an import."""

    async def work() -> tuple[Path, Path]:
        volumes = Volumes(database, Events(), root)
        await volumes.start()
        archives = VolumeArchives(volumes)
        first = (await volumes.create("first")).path
        deep(first, levels, width, attribute)
        kind, stream = await archives.read("first")
        assert kind == "application/x-tar"
        data = io.BytesIO()
        async for piece in stream:
            data.write(piece)
        second, new = await archives.write("second", pieces(data.getvalue()))
        assert new
        await archives.close()
        return first, second.path

    database = Database(root / "metadata.db")
    try:
        return asyncio.run(work())
    finally:
        database.close()


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65536):
        yield data[start : start + 65536]


def deep(folder: Path, levels: int, width: int, attribute: int) -> None:
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    for number in range(width):
        os.mkdir(f"w{number}", dir_fd=fd)
        if attribute:
            one = os.open(f"w{number}", os.O_RDONLY, dir_fd=fd)
            os.setxattr(one, "user.note", b"x" * attribute)
            os.close(one)
    os.close(fd)


def test_the_limits_of_layers_are_not_those_of_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("REMEMBERED_MAX", 5000), ("ATTRIBUTES_MAX", 5000), ("ENTRIES_MAX", 50)):
        monkeypatch.setattr(extract, name, limit)
    _, second = carried(tmp_path, width=100, attribute=100)
    assert {os.getxattr(one, "user.note") for one in (second / "d").iterdir()} == {b"x" * 100}
    assert len(list((second / "d").iterdir())) == 100
    limits = volume_archives.LIMITS
    assert limits.entries > 5_000_000 and limits.attributes > 64 << 20 and limits.remembered >= 96 << 20


def test_as_deep_as_a_path_is_long(tmp_path: Path) -> None:
    _, second = carried(tmp_path, levels=700)
    assert (second / "/".join("d" * 700) / "w0").is_dir()
    with pytest.raises(EngineError, match=r"^a path is longer than 4096 bytes: "):
        carried(tmp_path / "deeper", levels=2100)
    for folder in (tmp_path / "volumes", tmp_path / "deeper"):  # which shutil's recursion is not up to
        remove_tree(folder)


def test_no_word_of_layers(tmp_path: Path) -> None:
    async def work() -> None:
        volumes = Volumes(database, Events(), tmp_path)
        await volumes.start()
        with pytest.raises(BadArchive) as error:
            await VolumeArchives(volumes).write("data", pieces(link))
        assert "is not in the archive" in str(error.value)

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo("l")
        member.type, member.linkname = tarfile.LNKTYPE, "no/where"
        tar.addfile(member)
    link = stream.getvalue()
    database = Database(tmp_path / "metadata.db")
    asyncio.run(work())
    database.close()


def test_a_server_that_does_not_answer_keeps_nobody_but_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do many such readers keep those of other volumes."""
    go_on, asked, answered = threading.Event(), threading.Semaphore(0), list[bool]()
    opened = os.open

    def frozen(path: Any, *words: Any, **options: Any) -> int:
        if str(path).endswith("/served/_data"):
            asked.release()
            answered.append(go_on.wait(60))
        return opened(path, *words, **options)

    async def work() -> None:
        volumes = Volumes(database, Events(), tmp_path)
        await volumes.start()
        await volumes.create("here")
        await volumes.create("served", options={"type": "tmpfs", "device": "tmpfs"})
        archives = VolumeArchives(volumes)
        monkeypatch.setattr(os, "open", frozen)
        waiting = [asyncio.create_task(archives.read("served")) for _ in range(6)]
        for _ in waiting:
            assert await asyncio.to_thread(asked.acquire, timeout=10)
        _, stream = await archives.read("here")
        assert b"".join([piece async for piece in stream]).endswith(bytes(1024)) and answered == []
        go_on.set()
        for _, served in await asyncio.gather(*waiting):
            assert b"".join([piece async for piece in served])
        assert answered == [True] * 6 and not volumes.in_use("served")
        await archives.close()

    database = Database(tmp_path / "metadata.db")
    try:
        asyncio.run(work())
    finally:
        database.close()
        clear_mounts(tmp_path)
