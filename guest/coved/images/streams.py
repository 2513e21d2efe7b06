"""The bridge between an upload, which arrives in the event loop, and the thread that unpacks it."""

import asyncio
from collections.abc import AsyncIterator

from coved.errors import EngineError


class Aborted(EngineError):
    """Whoever asked for this has gone; the thread unwinds, and nobody reads the message."""


class ThreadStream:
    """A blocking ``read`` for a worker thread over an asynchronous iterator. Each read pulls, so nothing piles up."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._ended = False
        self._aborted = False

    def read(self, size: int) -> bytes:
        """For the thread: up to ``size`` bytes, b"" at the end; raises ``Aborted`` after ``abort``."""
        if self._aborted:
            raise Aborted("the client has gone")
        if not self._rest and not self._ended:
            self._rest = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            self._ended = not self._rest
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def abort(self) -> None:
        """For the event loop: makes the thread's next ``read`` fail."""
        self._aborted = True

    async def _next(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return chunk
        return b""
