"""What goes by an id, and may be asked for before it has come."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from coved.errors import NotFound

T = TypeVar("T")

WAIT_S = 5.0


class Arrivals(Generic[T]):
    """Belongs to the event loop. ``missing`` is what to say of an id that has not come, with the id for ``{}``."""

    def __init__(self, missing: str) -> None:
        self._missing = missing
        self._there: dict[str, T] = {}
        self._changed = asyncio.Condition()

    def __contains__(self, id: str) -> bool:
        return id in self._there

    async def add(self, id: str, what: T) -> None:
        """What is there already is replaced."""
        self._there[id] = what
        async with self._changed:
            self._changed.notify_all()

    def remove(self, id: str, what: T) -> None:
        """Does nothing when the id is another's."""
        if self._there.get(id) is what:
            del self._there[id]

    async def get(self, id: str) -> T:
        """Waits ``WAIT_S`` at most; raises NotFound after that."""
        try:
            async with asyncio.timeout(WAIT_S), self._changed:
                await self._changed.wait_for(lambda: id in self._there)
                return self._there[id]
        except TimeoutError:
            raise NotFound(self._missing.format(id)) from None
