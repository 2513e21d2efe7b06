"""Layers that are unpacked where nobody sees them, and then taken over all at once.

What comes from a client takes as long as the client likes, so it is received and unpacked while others go on changing
images; only the taking over is part of a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType

from coved.finishing import to_the_end
from coved.images.compression import Source
from coved.images.layers import Layer, LayerStore
from coved.images.streams import in_thread


class Staging:
    """An asynchronous context; at its end what has not been taken over is removed."""

    def __init__(self, store: LayerStore) -> None:
        self._store = store
        self._staged: dict[str, tuple[Path, Layer]] = {}
        self._rooms: list[Path] = []

    async def __aenter__(self) -> Staging:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rooms:
            await to_the_end(asyncio.to_thread(self._store.discard, self._rooms))

    def __contains__(self, diff_id: str) -> bool:
        return diff_id in self._staged

    async def unpack(self, threads: Executor, source: Source, abort: Callable[[], None], expected: str = "") -> Layer:
        """Unpacks an archive, plain or compressed, in a thread; a caller that is cancelled has it aborted by ``abort``.

        Args:
            expected: the diff id that it must have; "" takes it as it is.

        Raises BadArchive, OSError.
        """
        room = self._store.room()
        self._rooms.append(room)
        layer = await in_thread(threads, lambda: self._store.unpack(source, room, expected), abort)
        self._staged[layer.diff_id] = (room, layer)
        return layer

    async def take_over(self, diff_id: str) -> Layer:
        """The layer is one of the store's from now on. Raises KeyError when it has not been unpacked here, OSError."""
        room, layer = self._staged.pop(diff_id)
        await to_the_end(asyncio.to_thread(self._store.publish, room, layer))
        return layer
