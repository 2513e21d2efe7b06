"""Who may be at a container's files: two mounts of one overlay's upper directory are undefined behaviour.

Those who look at the same mount of it are there together: one client that has stopped keeps no other waiting. A container's
life, which makes another mount or takes the files away, does not wait for a client either: it asks for its turn with
``urgently``, and whoever is there then makes haste.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from coved.errors import Conflict

GRACE_S = 2.0
"""Seconds that a client has to finish what cannot be finished without it."""


class Place:
    """One caller's place at a container's files."""

    def __init__(self) -> None:
        self._hurry: Callable[[], None] | None = None
        self._wanted = False

    def hasten(self) -> None:
        """Others want the files."""
        self._wanted = True
        if self._hurry is not None:
            self._hurry()

    def when_wanted(self, hurry: Callable[[], None]) -> None:
        """``hurry`` is called, perhaps more than once, when others want the files."""
        self._hurry = hurry
        if self._wanted:
            hurry()

    @contextlib.asynccontextmanager
    async def at_a_clients_pace(self) -> AsyncIterator[None]:
        """The block is broken off ``GRACE_S`` after others want the files. Raises Conflict then."""
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
            raise Conflict("the copy was broken off: the container has ended, or is being started or removed") from None


class FilesTurn:
    """Of one container."""

    def __init__(self) -> None:
        self._places: set[Place] = set()
        self._mount: object = None
        self._others = 0  # those who wait for another mount than the present one
        self._urgent = 0
        self._alone = False
        self._news = asyncio.Event()

    @contextlib.asynccontextmanager
    async def among(self, mount: object) -> AsyncIterator[Place]:
        """Together with all who look at the same ``mount``, which is compared by identity.

        Those who look at another are told to make haste, and waited for.
        """
        place = Place()
        waits = False
        try:
            # Nobody joins those that are there while others wait for them to go.
            while self._urgent or (self._places and (self._mount is not mount or self._others > waits)):
                if not self._urgent and self._mount is not mount:
                    self._others += not waits
                    waits = True
                    self._hasten()
                await self._news.wait()
        finally:
            if waits:
                self._others -= 1
                self._tell()
        self._mount = mount
        self._places.add(place)
        try:
            yield place
        finally:
            self._places.discard(place)
            self._tell()

    @contextlib.asynccontextmanager
    async def urgently(self) -> AsyncIterator[None]:
        """Alone, and before all others that wait: the turn of a container's life."""
        self._urgent += 1
        try:
            self._hasten()
            while self._places or self._alone:
                await self._news.wait()
            self._alone = True
            try:
                yield
            finally:
                self._alone = False
        finally:
            self._urgent -= 1
            self._tell()

    def _hasten(self) -> None:
        for place in self._places:
            place.hasten()

    def _tell(self) -> None:
        """Whoever waits looks again."""
        self._news.set()
        self._news = asyncio.Event()
