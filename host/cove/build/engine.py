"""Connections to an engine's BuildKit: the Docker API turns two of its requests into HTTP/2 (POST /grpc and POST /session).

On the first we call, on the second the engine does.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from coved.grpc.client import Channel

from cove.build.session import Session

Dial = Callable[[str, Sequence[tuple[str, str]]], tuple[socket.socket, bytes]]
"""POST to a path with these headers beside the usual ones, and take over the connection: the socket, and what came after the
head. Blocks."""


class Engine:
    """Where builds are done. `dial` raises whatever it does for an engine that cannot be reached."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """A connection on which we call."""
        reader, writer, pending = await self._hijack("/grpc", ())
        channel = Channel(reader, writer, pending=pending)
        try:
            yield channel
        finally:
            await channel.close()

    @asynccontextmanager
    async def serving(self, session: Session) -> AsyncIterator[None]:
        """A connection on which the engine calls."""
        reader, writer, pending = await self._hijack("/session", session.headers())
        serving = asyncio.ensure_future(session.services.serve(reader, writer, pending=pending))
        try:
            yield
        finally:
            serving.cancel()
            await asyncio.wait([serving])

    async def _hijack(
        self, path: str, headers: Sequence[tuple[str, str]]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        sock, pending = await asyncio.to_thread(self._dial, path, headers)
        reader, writer = await asyncio.open_connection(sock=sock)
        return reader, writer, pending
