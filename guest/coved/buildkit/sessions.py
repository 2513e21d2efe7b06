"""Sessions by their ids. A build may be asked for before its client's session has come, and the other way round."""

from __future__ import annotations

import asyncio

from coved.buildkit.session import Session
from coved.errors import Conflict, NotFound

WAIT_S = 5.0


class Sessions:
    def __init__(self) -> None:
        self._there: dict[str, Session] = {}
        self._changed = asyncio.Condition()

    def must_be_new(self, id: str) -> None:
        """Raises Conflict."""
        if id in self._there:
            raise Conflict(f"session {id} already exists")

    async def add(self, session: Session) -> None:
        """Raises Conflict."""
        self.must_be_new(session.id)
        self._there[session.id] = session
        async with self._changed:
            self._changed.notify_all()

    def remove(self, session: Session) -> None:
        if self._there.get(session.id) is session:
            del self._there[session.id]

    async def get(self, id: str) -> Session:
        """Waits ``WAIT_S`` at most; raises NotFound after that."""
        try:
            async with asyncio.timeout(WAIT_S), self._changed:
                await self._changed.wait_for(lambda: id in self._there)
                return self._there[id]
        except TimeoutError:
            raise NotFound(f"no active session for {id}: context deadline exceeded") from None
