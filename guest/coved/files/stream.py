"""An archive that is made in worker threads, piece by piece as it is wanted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor

from coved.images.streams import Aborted

_PIECE = 256 * 1024


class ArchiveStream:
    """An asynchronous iterator of pieces of some 256 KiB; ``resources`` are let go when it ends or is closed."""

    def __init__(self, archive: Iterator[bytes], workers: Executor, resources: contextlib.AsyncExitStack) -> None:
        self._archive = archive
        self._workers = workers
        self._resources = resources
        self._pending: asyncio.Future[bytes] | None = None

    def __aiter__(self) -> ArchiveStream:
        return self

    async def __anext__(self) -> bytes:
        self._pending = asyncio.get_running_loop().run_in_executor(self._workers, self._piece)
        piece = await asyncio.shield(self._pending)
        if not piece:
            await self.aclose()
            raise StopAsyncIteration
        return piece

    def _piece(self) -> bytes:
        pieces, size = [], 0
        for data in self._archive:
            pieces.append(data)
            size += len(data)
            if size >= _PIECE:
                break
        return b"".join(pieces)

    async def aclose(self) -> None:
        if self._pending is not None and not self._pending.done():
            await asyncio.wait([self._pending])
        await asyncio.get_running_loop().run_in_executor(self._workers, self._archive.close)  # type: ignore[attr-defined]
        await self._resources.aclose()


class IteratorSource:
    """A blocking ``read`` over an iterator, for what unpacks archives in a thread."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._aborted = False

    def read(self, size: int) -> bytes:
        while not self._rest:
            if self._aborted:
                raise Aborted("the commit was given up")
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)

    def abort(self) -> None:
        self._aborted = True
