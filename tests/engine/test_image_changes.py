"""What becomes of images, seen from inside: no engine around them, and failures where they are wanted."""

import asyncio
import contextlib
import lzma
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from coved.events import Events
from coved.images import Images, archive, manager
from coved.images.tar import BadArchive
from coved.store.database import Database
from coved.store.trees import remove_tree

from image_archives import docker_archive, oci_archive, tar

pytestmark = pytest.mark.root

LAYER = tar([("one", b"1")])


@contextlib.asynccontextmanager
async def images_in(root: Path) -> AsyncIterator[Images]:
    database = Database(root / "db")
    images = Images(database, Events(), root)
    await images.start(root / "none")
    try:
        yield images
    finally:
        await images.close()
        database.close()


async def load(images: Images, data: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    await images.load(chunks(), lambda _: None, quiet=True)


def blobs(root: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (root / "blobs/sha256").iterdir()}


def test_a_layer_that_stays_lacking_is_not_unpacked_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_has_media_type", lambda _: True)

    async def scenario() -> None:
        async with images_in(tmp_path) as images:
            data = oci_archive([LAYER], "docker.io/library/x:1", stored=[lzma.compress(LAYER)])
            with pytest.raises(BadArchive, match="though it was unpacked"):
                await asyncio.wait_for(load(images, data), 20)
            assert blobs(tmp_path) == set() and not images.list()

    asyncio.run(scenario())


def test_others_go_on_while_a_spool_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        loop, alive = asyncio.get_running_loop(), threading.Event()
        seen: list[bool] = []

        def remove(path: Path) -> None:
            if path.name.startswith("load-"):
                loop.call_soon_threadsafe(alive.set)
                seen.append(alive.wait(5))
                loop.call_soon_threadsafe(task.cancel)
            remove_tree(path)

        async with images_in(tmp_path) as images:
            monkeypatch.setattr(manager, "remove_tree", remove)
            task = asyncio.ensure_future(load(images, docker_archive([LAYER], ["x"])))
            with pytest.raises(asyncio.CancelledError):
                await task
            assert seen == [True]
            assert not [*(tmp_path / "tmp").iterdir()]

    asyncio.run(scenario())
