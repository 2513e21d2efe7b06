"""Layers of files that lie in the engine's root already, as builds make them: an overlay's upper directory becomes a layer by
a rename, and its archive is written beside it, as it is of every layer (docs/decisions/0026)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

from coved.finishing import all_of, to_the_end
from coved.images.catalog import Catalog
from coved.images.documents import OCI_LAYER
from coved.images.layers import Blob, Layer, LayerStore
from coved.images.streams import Aborted, in_thread
from coved.store.blobs import BlobStore, SealedBlob


class Tree(NamedTuple):
    """What is to be a layer: an overlay's upper directory, which nobody changes any more.

    ``archive`` makes the layer's archive of it, in a worker thread; ``size`` is the bytes in its files.
    """

    path: Path
    archive: Generator[bytes, None, None]
    size: int


class Adopted(NamedTuple):
    diff_id: str
    moved: bool
    """False: there was such a layer already, and the tree is where it was."""


class Adoption:
    """Belongs to the event loop. ``changing`` is held while images are changed."""

    def __init__(
        self, catalog: Catalog, layers: LayerStore, blobs: BlobStore, changing: asyncio.Lock, workers: Executor
    ) -> None:
        self._catalog = catalog
        self._layers = layers
        self._blobs = blobs
        self._changing = changing
        self._workers = workers

    async def run(self, trees: Sequence[Tree], record: Callable[[list[Adopted]], object]) -> list[Adopted]:
        """Makes layers of trees, and of each tree's place a symbolic link to its layer. All of them or none, and with two waits
        for the disk, however many they are.

        Args:
            record: called within the transaction that records the layers. By ``Images.set_layer_users`` somebody must need
                them from then on.

        Raises OSError, and what the archives raise; then the trees are as they were.
        """
        writings = [_Writing(self._blobs, tree.archive) for tree in trees]
        try:
            sealed = await self._written(writings)
            # So that little is left to be waited for while nobody else can change images.
            await to_the_end(asyncio.to_thread(self._layers.sync))
        except BaseException:
            for writing in writings:
                writing.discard()
            raise
        return await to_the_end(self._add(trees, sealed, record))

    async def _written(self, writings: Sequence[_Writing]) -> list[SealedBlob]:
        working = [in_thread(self._workers, one.run, one.abort) for one in writings]
        await all_of(working)
        return [one.sealed() for one in writings]

    async def _add(
        self, trees: Sequence[Tree], sealed: Sequence[SealedBlob], record: Callable[[list[Adopted]], object]
    ) -> list[Adopted]:
        async with self._changing:
            moving: dict[str, Tree] = {}
            adopted = []
            for tree, blob in zip(trees, sealed, strict=True):
                diff_id = blob.digest  # the archive is a plain one
                new = diff_id not in self._catalog.layer_sizes and diff_id not in moving
                adopted.append(Adopted(diff_id, new))
                if new:
                    moving[diff_id] = tree
            blobs = {one.digest: one for one in sealed if not self._catalog.blobs(one.digest)}
            try:
                await asyncio.to_thread(self._publish, sealed, blobs, moving)
                with self._catalog.transaction():
                    for diff_id in dict.fromkeys([*moving, *blobs]):
                        layer = Layer(diff_id, moving[diff_id].size) if diff_id in moving else None
                        kept = [Blob(diff_id, blobs[diff_id].size, OCI_LAYER)] if diff_id in blobs else []
                        self._catalog.add_layer(diff_id, layer, kept)
                    record(adopted)
            except BaseException:
                await asyncio.to_thread(self._undo, sealed, blobs, moving)
                raise
        return adopted

    # -- in threads

    def _publish(
        self, sealed: Sequence[SealedBlob], blobs: Mapping[str, SealedBlob], moving: Mapping[str, Tree]
    ) -> None:
        for blob in sealed:
            if blobs.get(blob.digest) is blob:
                self._blobs.publish(blob, sync=False)
            else:
                blob.path.unlink()
        for diff_id, tree in moving.items():
            self._layers.adopt(tree.path, diff_id)
        self._layers.sync()

    def _undo(self, sealed: Sequence[SealedBlob], blobs: Mapping[str, SealedBlob], moving: Mapping[str, Tree]) -> None:
        for blob in sealed:
            blob.path.unlink(missing_ok=True)
        for digest in blobs:
            if not self._catalog.is_blob(digest):
                self._blobs.remove(digest)
        for diff_id, tree in moving.items():
            self._layers.give_back(tree.path, diff_id)


class _Writing:
    """One archive being written in a thread."""

    def __init__(self, blobs: BlobStore, archive: Generator[bytes, None, None]) -> None:
        self._blobs = blobs
        self._archive = archive
        self._aborted = False
        self._sealed: SealedBlob | None = None

    def run(self) -> None:
        """Raises ``Aborted`` after ``abort``, OSError."""
        with contextlib.closing(self._archive), self._blobs.writer() as writer:
            for data in self._archive:
                if self._aborted:
                    raise Aborted("the build was given up")
                writer.write(data)
            self._sealed = writer.seal(sync=False)

    def abort(self) -> None:
        self._aborted = True

    def sealed(self) -> SealedBlob:
        """The blob, which is not on the disk yet; it is the caller's, to publish or to unlink."""
        assert self._sealed is not None
        return self._sealed

    def discard(self) -> None:
        if self._sealed is not None:
            self._sealed.path.unlink(missing_ok=True)
