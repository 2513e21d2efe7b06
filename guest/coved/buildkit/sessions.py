"""Sessions by their ids. A build may be asked for before its client's session has come, and the other way round."""

from __future__ import annotations

from coved.buildkit.arrivals import Arrivals
from coved.buildkit.session import Session
from coved.errors import Conflict


class Sessions:
    def __init__(self) -> None:
        self._there: Arrivals[Session] = Arrivals("no active session for {}: context deadline exceeded")

    def must_be_new(self, id: str) -> None:
        """Raises Conflict."""
        if id in self._there:
            raise Conflict(f"session {id} already exists")

    async def add(self, session: Session) -> None:
        """Raises Conflict."""
        self.must_be_new(session.id)
        await self._there.add(session.id, session)

    def remove(self, session: Session) -> None:
        self._there.remove(session.id, session)

    async def get(self, id: str) -> Session:
        """Waits for it for a while; raises NotFound after that."""
        return await self._there.get(id)
