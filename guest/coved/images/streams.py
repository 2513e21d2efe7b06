"""Between the event loop, where uploads arrive and clients leave, and the threads that unpack them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, TypeVar

from coved.errors import EngineError

T = TypeVar("T")

_AT_ONCE = 256 * 1024
"""Bytes that cross over together."""


class Aborted(EngineError):
    """Whoever asked for this has gone; the thread unwinds, and nobody reads the message."""


class ThreadStream:
    """A blocking ``read`` for a worker thread over an asynchronous iterator. Each read pulls, so nothing piles up."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._position = 0
        self._ended = False
        self._aborted = False
        self._pending: Future[bytes] | None = None

    async def begin(self, size: int) -> bool:
        """For the event loop, before there is a thread: reads up to about ``size`` bytes ahead. Tells whether that is all."""
        self._rest = await self._next(size)
        self._ended = len(self._rest) < size
        return self._ended

    def read(self, size: int) -> bytes:
        """For the thread: up to ``size`` bytes, b"" at the end; raises ``Aborted`` after ``abort``."""
        if self._position == len(self._rest) and not self._ended:
            self._pending = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            try:
                self._rest, self._position = self._pending.result(), 0
            except CancelledError:
                raise Aborted("the upload was given up") from None
            self._ended = not self._rest
        data = self._rest[self._position : self._position + size]
        self._position += len(data)
        return data

    def abort(self) -> None:
        """For the event loop: makes the thread's present read fail, or its next one."""
        self._aborted = True
        if self._pending is not None:
            self._pending.cancel()

    async def _next(self, wanted: int = _AT_ONCE) -> bytes:
        if self._aborted:
            raise Aborted("the upload was given up")
        # The way from one thread to the other takes longer than a network's chunk is worth.
        pieces, size = [], 0
        async for chunk in self._chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size >= wanted:
                break
        return b"".join(pieces)


class OwnThreads(Executor):
    """Each work has a thread of its own: for what takes as long as a client likes, and must take no worker from others."""

    def submit(self, function: Callable[..., T], /, *arguments: Any, **options: Any) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function(*arguments, **options))
            except BaseException as error:
                future.set_exception(error)

        # Nobody waits for it at the engine's end: its client may still be at it.
        threading.Thread(target=run, daemon=True).start()
        return future


class CountedFile:
    """Reads for a thread: tells ``report`` how many bytes have been read so far, and can be aborted."""

    def __init__(self, read: Callable[[int], bytes], report: Callable[[int], None]) -> None:
        self._read = read
        self._report = report
        self._count = 0
        self._aborted = False

    def read(self, size: int) -> bytes:
        if self._aborted:
            raise Aborted("the upload was given up")
        data = self._read(size)
        self._count += len(data)
        if data:
            self._report(self._count)
        return data

    def abort(self) -> None:
        self._aborted = True


async def in_thread(executor: Executor | None, function: Callable[[], T], abort: Callable[[], None]) -> T:
    """Runs a function in a thread. A caller that is cancelled aborts it and waits for its end, so that what the thread
    works on is the caller's again."""
    work = asyncio.get_running_loop().run_in_executor(executor, function)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        abort()
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # it may well have failed, and nobody is left to be told
        raise
