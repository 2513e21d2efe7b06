"""What builds send away, and what stays here of it: this process has the stores."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from coved.build.cache.steps import Step
from coved.build.request import Output, Request
from coved.build.stages.exporting import Built, Exporter
from coved.build.stages.state import of_nothing
from coved.build.vertices import Vertices
from coved.images import Image
from coved.images.documents import Platform
from coved.images.model import ImageUser

from test_build_snapshots import Stores, run, text

pytestmark = [pytest.mark.root, pytest.mark.native]

HERE = Platform("linux", "amd64")


class Silent:
    """A build's progress that nobody sees."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class Reader:
    """A build's client that does something after an archive's first piece has come."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self._meanwhile = meanwhile
        self.archive = b""

    async def receive_tar(self, output: int, chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            if not self.archive:
                await self._meanwhile()
            self.archive += chunk

    def names(self) -> object:
        with tarfile.open(fileobj=io.BytesIO(self.archive)) as archive:
            found = archive.extractfile("manifest.json")
            assert found is not None
            return json.load(found)[0]["RepoTags"]


async def built(stores: Stores, *files: str) -> Built:
    """A state of one step for each file."""
    state = of_nothing()
    for name in files:
        ref = await stores.sealed(text(name))
        state = state.stepped(Step(name, name, ref, "", name, 1, 1, 1), name)
    return Built(state, HERE)


def exporting(stores: Stores) -> Exporter:
    return Exporter(stores.images, stores.snapshots, None)  # type: ignore[arg-type]


async def sent(exporter: Exporter, what: Built, client: Reader, name: str = "sent:1") -> None:
    output = Output("oci", [name])
    await exporter.archive([what], output, Request(), Vertices(Silent()), client)  # type: ignore[arg-type]
    assert client.names() == [name]


async def made(exporter: Exporter, what: Built, *names: str) -> Image:
    return (await exporter.image([what], Output(names=names), Request(), Vertices(Silent())))[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["named", "used", "several names"])
def test_an_archives_image_that_has_become_somebodys_stays(tmp_path: Path, how: str) -> None:
    async def work(stores: Stores) -> None:
        what, exporter = await built(stores, "a"), exporting(stores)

        async def another_build() -> None:
            names = {"named": ["his:1"], "used": [], "several names": ["his:1", "hers:1"]}[how]
            image = await made(exporter, what, *names)
            if how == "used":
                stores.images.set_users(lambda id: [ImageUser("c" * 64, False)] if id == image.id else [])

        await sent(exporter, what, Reader(another_build))
        (image,) = stores.images.list()
        assert len(image.tags) == {"named": 1, "used": 0, "several names": 2}[how]

    run(tmp_path, work)


def test_an_archives_image_does_not_stay_for_itself(tmp_path: Path) -> None:
    async def work(stores: Stores) -> None:
        what, exporter = await built(stores, "a"), exporting(stores)

        async def nothing() -> None:
            pass

        await sent(exporter, what, Reader(nothing))
        assert stores.images.list() == []
        # Two that come to the same leave each other's alone.
        await asyncio.gather(*(sent(exporter, what, Reader(nothing), name) for name in ("one:1", "two:1")))
        assert stores.images.list() == []
        before = await made(exporter, what)
        await sent(exporter, what, Reader(nothing))
        assert [one.id for one in stores.images.list()] == [before.id]
        assert not os.listdir(stores.root / "tmp")  # where archives have their files

    run(tmp_path, work)


@pytest.mark.parametrize("when", ["diff_ids", "assemble", "never"])
def test_a_squashed_layer_is_the_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """A build that is cancelled at either moment leaves no more than its steps."""

    async def work(stores: Stores) -> None:
        what = await built(stores, "a", "b")
        steps, exporter = sorted(stores.snapshots), exporting(stores)
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def late(*arguments: Any) -> Any:
            result = await real(*arguments)
            reached.set()
            await go_on.wait()
            return result

        where: Any = stores.snapshots if when == "diff_ids" else stores.images
        real = getattr(where, when, None)
        if real is not None:
            monkeypatch.setattr(where, when, late)
        job = exporter.image([what], Output(), Request(squash=True), Vertices(Silent()))  # type: ignore[arg-type]
        task = asyncio.create_task(job)
        if real is None:
            assert len((await task)[0].diff_ids) == 1
        else:
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert sorted(stores.snapshots) == steps
        assert len(stores.files()["layers"]) == (0 if when == "diff_ids" else 1)

    run(tmp_path, work)
