"""One after another at a container's files: two mounts of one overlay's upper directory are undefined behaviour.

Some of those who are at it work at the pace of a client, who may have stopped for ever. A container's life does not wait
for a client: it asks for its turn with ``urgently``, and whoever is at it then makes haste.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from coved.errors import Conflict

GRACE_S = 2.0
"""Seconds that a client has to finish what cannot be finished without it."""


class FilesTurn:
    """``async with turn`` for whoever looks into a container's files from outside."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._urgent = 0
        self._calm = asyncio.Event()
        self._calm.set()
        self._hurry: Callable[[], None] | None = None

    async def __aenter__(self) -> None:
        while True:
            await self._calm.wait()
            await self._lock.acquire()
            if not self._urgent:
                return
            self._lock.release()

    async def __aexit__(self, *error: object) -> None:
        self._hurry = None
        self._lock.release()

    @contextlib.asynccontextmanager
    async def urgently(self) -> AsyncIterator[None]:
        """The turn of a container's life: before all others that wait, and whoever is at it is told to make haste."""
        self._urgent += 1
        self._calm.clear()
        try:
            if self._hurry is not None:
                self._hurry()
            async with self._lock:
                yield
        finally:
            self._urgent -= 1
            if not self._urgent:
                self._calm.set()

    def when_wanted(self, hurry: Callable[[], None]) -> None:
        """For whoever has the turn: ``hurry`` is called, perhaps more than once, when the container's life wants it."""
        self._hurry = hurry
        if self._urgent:
            hurry()

    @contextlib.asynccontextmanager
    async def at_a_clients_pace(self) -> AsyncIterator[None]:
        """For whoever has the turn: the block is broken off ``GRACE_S`` after the container's life wants it.

        Raises Conflict then.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:

                def hurry() -> None:
                    if limit.when() is None:
                        limit.reschedule(loop.time() + GRACE_S)

                self.when_wanted(hurry)
                try:
                    yield
                finally:
                    self._hurry = None
        except TimeoutError:
            if not limit.expired():
                raise
            raise Conflict("the copy was broken off: the container is being started or removed") from None
