"""One after another: whoever changes the networks of a container has them to himself meanwhile.

A change looks at what is there, waits for the kernel or the host, and notes the outcome. Without turns the end of the
container comes in between, and the change then notes an outcome of something that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from coved.errors import NotFound


class Turns:
    """A lock for each container, from the first change of its networks to its removal."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}

    @contextlib.asynccontextmanager
    async def of(self, container_id: str) -> AsyncIterator[None]:
        """Raises NotFound when the container is removed while this waits for its turn."""
        lock = self._locks.setdefault(container_id, asyncio.Lock())
        async with lock:
            if self._locks.get(container_id) is not lock:
                raise NotFound(f"No such container: {container_id}")
            yield

    def end(self, container_id: str) -> None:
        """Called within the last turn: there is no container for those who wait."""
        self._locks.pop(container_id, None)
