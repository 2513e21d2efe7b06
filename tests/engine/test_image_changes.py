"""What becomes of images, seen from inside: no engine around them, and failures where they are wanted."""

import asyncio
import contextlib
import itertools
import lzma
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from coved.errors import StorageFull
from coved.events import Events
from coved.images import Images, manager, read_archive
from coved.images.catalog import Catalog
from coved.images.tar import BadArchive
from coved.store.blobs import BlobStore
from coved.store.database import Database
from coved.store.trees import remove_tree

from image_archives import docker_archive, oci_archive, tar

pytestmark = [pytest.mark.root, pytest.mark.native]

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
    monkeypatch.setattr(read_archive, "_has_media_type", lambda _: True)

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
                seen.append(alive.wait(60))
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


LAYERS = [tar([("one", b"1" * 700_000)]), tar([("two", b"2")])]


@pytest.mark.parametrize(
    "data", [docker_archive(LAYERS, ["x", "y"]), oci_archive(LAYERS, "docker.io/library/x:latest")]
)
def test_an_image_is_added_with_all_that_it_has_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """The engine dies after each of the statements that write, one after another."""

    async def until(deadline: int, root: Path) -> bool:
        count = 0
        real = Database.execute

        def execute(self: Database, sql: str, parameters: Any = ()) -> int:
            nonlocal count
            done = real(self, sql, parameters)
            count += 1
            if count == deadline:
                os._exit(9)
            return done

        async with images_in(root) as images:
            monkeypatch.setattr(Database, "execute", execute)
            await load(images, data)
        return True

    for deadline in itertools.count(1):
        root = tmp_path / str(deadline)
        root.mkdir()
        if not (pid := os.fork()):
            os._exit(0 if asyncio.run(until(deadline, root)) else 1)
        died = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        database = Database(root / "db")
        found = Catalog(database, BlobStore(root)).all()
        database.close()
        assert all(one.tags for one in found), deadline
        if not died:
            assert found and deadline > 5
            return
        assert died == 9


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with images_in(tmp_path) as images:

            def refuse(*_: object) -> None:
                raise StorageFull("no space left on device")

            with monkeypatch.context() as patched:
                patched.setattr(Catalog, "set_name", refuse)
                with pytest.raises(StorageFull):
                    await load(images, docker_archive(LAYERS, ["x"]))
            assert not images.list() and not images.layers_size() and blobs(tmp_path) == set()
            assert not [*(tmp_path / "layers").iterdir()]
            await load(images, docker_archive(LAYERS, ["x"]))
            assert images.get("x").tags == ("x:latest",)

    asyncio.run(scenario())
