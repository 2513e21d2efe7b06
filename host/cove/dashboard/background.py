"""Work that blocks, in a thread of its own, and what it has to tell on its way: the page may leave, and the process end, before it does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _End:
    pass


class Background(Generic[T]):
    """Runs `work`, which gets a function by which it tells something, as soon as this is made.

    ``ended`` is called in the event loop when the work is over, listened to or not.
    """

    def __init__(
        self, work: Callable[[Callable[[T], None]], None], name: str, ended: Callable[[], None] = lambda: None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[T | Exception | _End] = asyncio.Queue()
        self._work = work
        self._ended = ended
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def told(self) -> AsyncIterator[T]:
        """All that it tells, until its end. Raises what it has raised."""
        while not isinstance(item := await self._told.get(), _End):
            if isinstance(item, Exception):
                raise item
            yield item

    def _run(self) -> None:
        last: Exception | _End = _End()
        try:
            self._work(self._tell)
        except Exception as error:
            last = error
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end, last)

    def _end(self, last: Exception | _End) -> None:
        self._ended()  # before anybody is told, who may ask for the next thing
        self._told.put_nowait(last)

    def _tell(self, item: T) -> None:
        with contextlib.suppress(RuntimeError):  # the process ends
            self._loop.call_soon_threadsafe(self._told.put_nowait, item)
