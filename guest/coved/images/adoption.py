"""Layers of files that lie in the engine's root already, as builds make them: an overlay's upper directory becomes a layer by
a rename, and its archive is written beside it, as it is of every layer (docs/decisions/0026)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

from coved.finishing import to_the_end
from coved.images.catalog import Catalog
from coved.images.documents import OCI_LAYER
from coved.images.layers import Blob, Layer, LayerStore
from coved.images.streams import Aborted, in_thread
from coved.store.blobs import BlobStore, SealedBlob


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

    async def run(
        self, tree: Path, archive: Generator[bytes, None, None], size: int, record: Callable[[Adopted], object]
    ) -> Adopted:
        """Makes an overlay's upper directory a layer.

        Args:
            tree: nobody changes it any more, and it is on the disk. It becomes the layer's, and a symbolic link to it takes
                its place.
            archive: the layer's archive, which is made from the tree in a worker thread.
            size: bytes in its files.
            record: called within the transaction that records the layer. By ``Images.set_layer_users`` somebody must need it
                from then on.

        Raises OSError, and what ``archive`` raises; then the tree is as it was.
        """
        writing = _Writing(self._blobs, archive)
        try:
            sealed = await in_thread(self._workers, writing.run, writing.abort)
        except asyncio.CancelledError:
            writing.discard()
            raise
        return await to_the_end(self._add(tree, size, sealed, record))

    async def _add(self, tree: Path, size: int, sealed: SealedBlob, record: Callable[[Adopted], object]) -> Adopted:
        diff_id = sealed.digest  # the archive is a plain one
        async with self._changing:
            known = diff_id in self._catalog.layer_sizes
            blobs = [] if self._catalog.blobs(diff_id) else [Blob(diff_id, sealed.size, OCI_LAYER)]
            adopted = Adopted(diff_id, moved=not known)
            try:
                if blobs:
                    await asyncio.to_thread(self._blobs.publish, sealed)
                else:
                    await asyncio.to_thread(sealed.path.unlink)
                await asyncio.to_thread(self._layers.adopt, tree, diff_id)
                with self._catalog.transaction():
                    self._catalog.add_layer(diff_id, None if known else Layer(diff_id, size), blobs)
                    record(adopted)
            except BaseException:
                sealed.path.unlink(missing_ok=True)
                if blobs and not self._catalog.is_blob(diff_id):
                    await asyncio.to_thread(self._blobs.remove, diff_id)
                if not known:
                    await asyncio.to_thread(self._layers.give_back, tree, diff_id)
                raise
        return adopted


class _Writing:
    """One archive being written in a thread."""

    def __init__(self, blobs: BlobStore, archive: Generator[bytes, None, None]) -> None:
        self._blobs = blobs
        self._archive = archive
        self._aborted = False
        self._sealed: SealedBlob | None = None

    def run(self) -> SealedBlob:
        """Raises ``Aborted`` after ``abort``, OSError. The blob is the caller's, to publish or to unlink."""
        with contextlib.closing(self._archive), self._blobs.writer() as writer:
            for data in self._archive:
                if self._aborted:
                    raise Aborted("the build was given up")
                writer.write(data)
            self._sealed = writer.seal()
            return self._sealed

    def abort(self) -> None:
        self._aborted = True

    def discard(self) -> None:
        if self._sealed is not None:
            self._sealed.path.unlink(missing_ok=True)
