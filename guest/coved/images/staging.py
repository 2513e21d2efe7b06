"""Layers that are unpacked where nobody sees them, and then taken over all at once.

What comes from a client or a registry takes as long as that likes, so it is received and unpacked while others go on
changing images; only the taking over is part of a change.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from coved.finishing import to_the_end
from coved.images.catalog import Catalog
from coved.images.compression import PeekedStream, Source, media_type
from coved.images.layers import Blob, Layer, LayerStore
from coved.images.streams import in_thread
from coved.images.tar import BadArchive
from coved.store.blobs import BlobStore, SealedBlob


@dataclass(frozen=True)
class Published:
    """What has its place in the store, and no rows yet, by diff id: layers that were new, and archives that were."""

    layers: dict[str, Layer]
    blobs: dict[str, list[Blob]]

    def record(self, catalog: Catalog) -> None:
        """They are the store's from now on."""
        for diff_id in dict.fromkeys([*self.layers, *self.blobs]):
            catalog.add_layer(diff_id, self.layers.get(diff_id), self.blobs.get(diff_id, ()))


class Staging:
    """An asynchronous context; at its end what has not been taken over is removed."""

    def __init__(self, layers: LayerStore, blobs: BlobStore) -> None:
        self._layers = layers
        self._blobs = blobs
        self._staged: dict[str, tuple[Path, Layer]] = {}
        self._sealed: dict[str, tuple[SealedBlob, str, str]] = {}
        """By digest: with the layer's diff id and the media type."""
        self._rooms: list[Path] = []
        self._temporary: list[Path] = []

    async def __aenter__(self) -> Staging:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rooms or self._temporary:
            await to_the_end(asyncio.to_thread(self._discard))

    def __contains__(self, diff_id: str) -> bool:
        return diff_id in self._staged

    def has_blob(self, digest: str, diff_id: str) -> bool:
        return digest in self._sealed and self._sealed[digest][1] == diff_id

    def has_blob_of(self, diff_id: str) -> bool:
        return any(of == diff_id for _, of, _ in self._sealed.values())

    def keep(self, make: Callable[[], SealedBlob], diff_id: str, media_type: str) -> None:
        """For a worker thread: makes another archive of a layer."""
        self._keep(make(), Layer(diff_id, 0, media_type))

    async def unpack(
        self, threads: Executor, source: Source, abort: Callable[[], None], expected: str = "", blob: str = ""
    ) -> Layer:
        """Unpacks an archive, plain or compressed, in a thread, and keeps it as it came; both are verified as they stream. A
        caller that is cancelled has it aborted by ``abort``.

        Args:
            expected: the diff id that it must have; "" takes it as it is.
            blob: the digest that the archive itself must have; "" takes it as it is.

        Raises BadArchive, DigestMismatch, OSError.
        """
        room = self._layers.room()
        self._rooms.append(room)
        return await in_thread(threads, lambda: self._unpack(source, room, expected, blob), abort)

    async def unpack_file(
        self, threads: Executor, path: Path, digest: str, source: Source, abort: Callable[[], None], expected: str,
        *, is_known: bool,
    ) -> Layer:  # fmt: skip
        """The same for a file on the store's file system, which is kept as it is.

        Args:
            digest: of the file, which the caller has verified.
            source: reads the file.
            is_known: the layer is there already, and only its archive is wanted.
        """
        room = self._layers.room()
        self._rooms.append(room)

        def work() -> Layer:
            with path.open("rb") as file:
                if not media_type(PeekedStream(file).head):
                    return self._unpack(source, room, expected, "")  # in a way that is not kept
            if is_known:
                layer = self._layers.identify(source)
                if layer.diff_id != expected:
                    raise BadArchive(f"layer verification failed: expected {expected}, got {layer.diff_id}")
            else:
                layer = self._layers.unpack(source, room, expected)
                self._staged[layer.diff_id] = (room, layer)
            self._keep(self._blobs.adopt(path, digest), layer)
            return layer

        return await in_thread(threads, work, abort)

    async def publish(self, catalog: Catalog, diff_ids: Iterable[str]) -> Published:
        """Puts the files of the layers, and of their archives, where the store has them; recording them is the caller's.

        Raises KeyError for a layer that is neither here nor there, OSError.
        """
        published = Published({}, {})
        try:
            for diff_id in dict.fromkeys(diff_ids):
                if diff_id not in catalog.layer_sizes:
                    room, layer = self._staged.pop(diff_id)
                    published.layers[diff_id] = layer
                    await asyncio.to_thread(self._layers.publish, room, layer)
                for digest, (sealed, of, kind) in [*self._sealed.items()]:
                    if of == diff_id and not catalog.has_blob(digest, diff_id):
                        published.blobs.setdefault(diff_id, []).append(Blob(digest, sealed.size, kind))
                        await asyncio.to_thread(self._blobs.publish, sealed)
                        del self._sealed[digest]
        except BaseException:
            await self.withdraw(catalog, published)
            raise
        return published

    async def withdraw(self, catalog: Catalog, published: Published) -> None:
        """Removes the files of what could not be recorded after all. Who wants it has to bring it again."""
        for diff_id, blobs in published.blobs.items():
            for blob in blobs:
                if not catalog.has_blob(blob.digest, diff_id):
                    await asyncio.to_thread(self._blobs.remove, blob.digest)
        for diff_id in published.layers:
            if diff_id not in catalog.layer_sizes:
                await asyncio.to_thread(self._layers.remove, diff_id)

    # -- in threads

    def _unpack(self, source: Source, room: Path, expected: str, blob: str) -> Layer:
        with self._blobs.writer() as writer:
            layer = self._layers.unpack(source, room, expected, writer)
            self._keep(writer.seal(blob), layer)
        self._staged[layer.diff_id] = (room, layer)
        return layer

    def _keep(self, sealed: SealedBlob, layer: Layer) -> None:
        self._temporary.append(sealed.path)
        self._sealed[sealed.digest] = (sealed, layer.diff_id, layer.media_type)

    def _discard(self) -> None:
        self._layers.discard(self._rooms)
        for path in self._temporary:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
