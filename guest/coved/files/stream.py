"""An archive that is made in worker threads, piece by piece as it is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import IO

from coved.errors import EngineError
from coved.images.streams import Aborted

_PIECE = 256 * 1024
HASTE_S = 5.0
HASTE_BYTES = 1 << 30
"""What the rest of an archive may take, in time and room on the disk, when somebody waits for its end."""


class ArchiveStream:
    """An asynchronous iterator of pieces of some 256 KiB; ``resources`` are let go when it ends or is closed.

    Args:
        spool: a folder where the rest is kept for its reader when others want the resources.
    """

    def __init__(
        self, archive: Iterator[bytes], workers: Executor, resources: contextlib.AsyncExitStack, spool: Path
    ) -> None:
        self._archive = archive
        self._workers = workers
        self._resources = resources
        self._folder = spool
        self._pending: asyncio.Future[bytes] | None = None
        self._hastening: asyncio.Task[None] | None = None
        self._spool: IO[bytes] | None = None
        self._broken = ""

    def hasten(self) -> None:
        """Makes the rest without waiting for the reader, and lets the resources go; what is too much breaks the archive off."""
        if self._hastening is None:
            self._hastening = asyncio.get_running_loop().create_task(self._haste())

    def __aiter__(self) -> ArchiveStream:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._in_turn(self._next)
        if not piece:
            await self.aclose()
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        if self._hastening is not None:
            await asyncio.wait([self._hastening])
        await self._release()
        if self._spool is not None:
            self._spool.close()

    async def _haste(self) -> None:
        try:
            await self._in_turn(self._keep_rest)
        finally:
            await self._release()

    async def _release(self) -> None:
        if self._pending is not None and not self._pending.done():
            await asyncio.wait([self._pending])
        await asyncio.get_running_loop().run_in_executor(self._workers, self._archive.close)  # type: ignore[attr-defined]
        await self._resources.aclose()

    async def _in_turn(self, work: Callable[[], bytes]) -> bytes:
        """In a worker thread, after what is going on there for a reader that has given up, or to make haste."""
        while self._pending is not None and not self._pending.done():
            await asyncio.wait([self._pending])
        self._pending = asyncio.get_running_loop().run_in_executor(self._workers, work)
        return await asyncio.shield(self._pending)

    # -- in a worker thread

    def _next(self) -> bytes:
        if self._broken:
            raise EngineError(f"the archive was broken off: {self._broken}")
        if self._spool is not None:
            return self._spool.read(_PIECE)
        return self._piece()

    def _piece(self) -> bytes:
        pieces, size = [], 0
        for data in self._archive:
            pieces.append(data)
            size += len(data)
            if size >= _PIECE:
                break
        return b"".join(pieces)

    def _keep_rest(self) -> bytes:
        deadline, size = time.monotonic() + HASTE_S, 0
        try:
            spool = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 -- its reader closes it
        except OSError as error:
            self._broken = f"{error.strerror}"
            return b""
        try:
            while piece := self._piece():
                spool.write(piece)
                size += len(piece)
                if size > HASTE_BYTES or time.monotonic() > deadline:
                    raise EngineError("the container is being started or removed")
            spool.seek(0)
            self._spool = spool
        except Exception as error:
            self._broken = str(error)
            spool.close()
        return b""


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
