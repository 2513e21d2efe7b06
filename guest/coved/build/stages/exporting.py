"""What comes out of a build: an image with its names, files for the client, or an archive."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from coved.build.cache import inline_cache
from coved.build.cache.snapshots import Draft, Snapshots
from coved.build.client import Client
from coved.build.errors import BuildError
from coved.build.files import squashing
from coved.build.files.copier import Copier
from coved.build.orders import CopyOrder, Files
from coved.build.request import Output, Request
from coved.build.stages.naming import canonical
from coved.build.stages.state import State, dated
from coved.build.vertices import Vertices
from coved.files import tarwriter
from coved.finishing import to_the_end
from coved.images import Image, Images
from coved.images.documents import Platform
from coved.runtime.ids import Ids
from coved.times import rfc3339


@dataclass(frozen=True)
class Built:
    """What a build has come to, for one platform."""

    state: State
    platform: Platform
    epoch: str = ""
    """See ``epoch.asked_for``."""


class Exporter:
    """Belongs to the event loop."""

    def __init__(self, images: Images, snapshots: Snapshots, copier: Copier) -> None:
        self._images = images
        self._snapshots = snapshots
        self._copier = copier
        self._one_by_one = asyncio.Lock()

    async def image(
        self, built: Sequence[Built], output: Output, request: Request, vertices: Vertices
    ) -> tuple[Image, list[str]]:
        """Makes the image, one for each platform, and names it. Raises BuildError, EngineError."""
        names = _names(output)
        own: set[str] = set()
        with vertices.doing("exporting to image") as doing:
            try:
                with doing.part("exporting layers"):
                    documents = []
                    for one in built:
                        state = one.state
                        if request.squash:
                            state = await self._squashed(state)
                            own |= {*state.refs} - {*one.state.refs}
                        diff_ids = await self._snapshots.diff_ids(state.refs)
                        fields = document(
                            state, one.platform, [diff_ids[ref] for ref in state.refs], request, one.epoch
                        )
                        if inline_cache.wanted(request.cache_to, request.build_args):
                            fields[inline_cache.FIELD] = inline_cache.of_steps(state.steps, diff_ids)
                        documents.append(fields)
                image = await self._images.assemble(documents, names)
            finally:  # what became one layer is the image's alone, if there is one, and no step's
                await to_the_end(self._snapshots.remove(own))
            with doing.part(f"writing image {image.id}"):
                pass
            for name in names:
                with doing.part(f"naming to {name}"):
                    pass
        return image, names

    async def files(self, built: Sequence[Built], output: Output, vertices: Vertices, client: Client) -> None:
        """Sends the files of the result to the client, as they are in a container: into a folder of its, which has one for each
        platform when there are several, or as an archive. Raises BuildError.
        """
        if output.kind == "tar" and len(built) > 1:
            raise BuildError(
                "an archive has the files of one platform: build for one, or have them in a folder (type=local)"
            )
        what = "client directory" if output.kind == "local" else "client tarball"
        with vertices.doing(f"exporting to {what}") as doing:
            async with contextlib.AsyncExitStack() as stack:
                drafts = {}
                for one in built:
                    draft = drafts[one.platform] = await stack.enter_async_context(self._snapshots.draft())
                    await self._copier.copy(CopyOrder((), "/", Files(refs=one.state.refs), ["/"]), draft)
                if output.kind == "tar":
                    with doing.part("sending tarball"):
                        await client.receive_tar(output.id, _archive(draft))
                    return
                with doing.part("copying files"):
                    if len(built) == 1:
                        await client.receive_tree(output.id, draft.upper)
                        return
                    top = await stack.enter_async_context(self._snapshots.draft())
                    folders = {str(platform).replace("/", "_"): one.upper for platform, one in drafts.items()}
                    await client.receive_tree(output.id, top.upper, folders)

    async def archive(
        self, built: Sequence[Built], output: Output, request: Request, vertices: Vertices, client: Client
    ) -> None:
        """Sends an archive of the image, an OCI layout that is an archive of ``docker save`` as well. What has the image's names
        here keeps them, but when there are several platforms, which only a name holds together."""
        names = _names(output)
        several = len(built) > 1
        if several and not names:
            raise BuildError("several platforms in one archive need a name that holds them together: add --tag NAME")
        shown = "oci image format" if output.kind == "oci" else "docker image format"
        archive: AsyncIterator[bytes]
        async with contextlib.AsyncExitStack() as stack:
            if several:
                await self.image(built, Output(names=names), request, vertices)
                archive = await stack.enter_async_context(
                    contextlib.aclosing(await self._images.save(names, called=names))
                )
            else:
                archive = await self._passing(built[0], names, request, vertices, stack)
            with vertices.doing(f"exporting to {shown}") as doing, doing.part("sending tarball"):
                await client.receive_tar(output.id, archive)

    async def _passing(
        self, built: Built, names: Sequence[str], request: Request, vertices: Vertices, stack: contextlib.AsyncExitStack
    ) -> AsyncIterator[bytes]:
        """An archive, which ``stack`` closes, of an image that is not to stay. That goes before the archive does, whose client
        may take long to read it: meanwhile the image may become somebody's."""
        async with self._one_by_one:  # or a build that comes to the same could find this one's image, and lose it
            here = {one.id for one in self._images.list()}
            image, _ = await self.image([built], Output(), request, vertices)
            try:
                archive = await self._images.save([image.id], called=names)
                return await stack.enter_async_context(contextlib.aclosing(archive))
            finally:
                if image.id not in here:
                    await self._images.remove_unused(image.id)

    async def _squashed(self, state: State) -> State:
        """The same with one layer on top of the base image's."""
        refs = [step.ref for step in state.steps if step.ref]
        if len(refs) < 2:
            return state
        base = state.refs[: len(state.refs) - len(refs)]
        layers = [*reversed(self._snapshots.lower_dirs(tuple(refs)))]
        async with self._snapshots.draft() as draft:
            await asyncio.to_thread(squashing.merge, layers, draft.upper)
            ref = await self._snapshots.seal(draft)
        return state.squashed(base, ref)


def _names(output: Output) -> list[str]:
    return [str(canonical(one, f'invalid tag "{one}"')) for one in output.names]


def document(state: State, platform: Platform, diff_ids: Sequence[str], request: Request, epoch: str) -> dict[str, Any]:
    """The image's configuration (OCI image spec, config.md)."""
    if request.in_order and state.platform is not None:
        platform = state.platform  # the builder of before BuildKit passes on what its base image says
    history, created = dated(state.history, state.created, epoch=epoch, inherited=state.inherited)
    config = {name: value for name, value in state.config.items() if value not in (None, "", [], {})}
    if request.labels:
        # Compose sends them in another order each time, and the image must be the same.
        config["Labels"] = dict(sorted({**config.get("Labels", {}), **request.labels}.items()))
    fields: dict[str, Any] = {
        "architecture": platform.architecture,
        "config": config,
        "created": created or rfc3339(0),
        "history": history,
        "os": platform.os,
        "rootfs": {"type": "layers", "diff_ids": [*diff_ids]},
    }
    if platform.variant:
        fields["variant"] = platform.variant
    if state.author:
        fields["author"] = state.author
    return fields


async def _archive(draft: Draft) -> AsyncIterator[bytes]:
    """Made in a thread as it is read."""
    root = os.open(draft.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        pieces = tarwriter.archive(root, ".", "", Ids())
        # What fills up a block may be nothing, and is not the end.
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece
    finally:
        os.close(root)
