"""The engine as BuildKit: what ``POST /grpc`` and ``POST /session`` lead to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from coved.build.builder import Builder
from coved.buildkit.builds import Builds
from coved.buildkit.content import Content
from coved.buildkit.control import Control
from coved.buildkit.errors import to_grpc
from coved.buildkit.gateway import Gateway
from coved.buildkit.history import History
from coved.buildkit.messages import BuildkitVersion, Platform, WorkerRecord
from coved.buildkit.session import Session
from coved.buildkit.sessions import Sessions
from coved.grpc.client import Channel
from coved.grpc.server import Services
from coved.images import documents

PROTOCOL = "v0.13.0"
"""The BuildKit whose API this is."""
_BUFFER = 512 * 1024
_HOST_GATEWAY = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"


class Service:
    """Belongs to the event loop."""

    def __init__(
        self, builder: Builder, history: History, *, identity: str, version: str, platforms: Callable[[], Iterable[documents.Platform]],
        host_gateway: str, sockets: Path,
    ) -> None:  # fmt: skip
        """
        Args:
            identity: of the engine, by which the one worker goes.
            version: of the engine.
            platforms: tells those whose programs run now.
            host_gateway: address that ``host-gateway`` means; "" when there is none.
            sockets: a folder for sockets that nobody else can look into.
        """
        self._builder = builder
        self._sockets = sockets
        self._sessions = Sessions()

        def worker() -> WorkerRecord:
            return WorkerRecord(
                id=identity,
                labels={_HOST_GATEWAY: host_gateway} if host_gateway else {},
                platforms=[Platform(each.architecture, each.os, each.variant) for each in platforms()],
                buildkit_version=BuildkitVersion("cove", f"{PROTOCOL}+cove{version}"),
            )

        builds = Builds(self._sessions, builder, history)
        self._services = Services(to_grpc)
        Control(builds, history, builder.upkeep, worker).register(self._services)
        Content(history).register(self._services)
        Gateway(builds, worker).register(self._services)

    async def serve(self, fd: int, pending: bytes) -> None:
        """A client's calls, until it goes. Owns ``fd``, a connection of which ``pending`` has been read already."""
        reader, writer = await _streams(fd)
        await self._services.serve(reader, writer, pending=pending)

    def must_be_new(self, id: str) -> None:
        """Raises Conflict when there is a session of that id."""
        self._sessions.must_be_new(id)

    async def hold(self, fd: int, pending: bytes, id: str, shared_key: str) -> None:
        """A client's session, until it goes. Raises Conflict."""
        reader, writer = await _streams(fd)
        channel = Channel(reader, writer, pending=pending)
        builder = self._builder
        session = Session(
            channel, id, shared_key, contexts=builder.contexts, archives=builder.incoming, sockets=self._sockets
        )
        try:
            await self._sessions.add(session)
            await session.wait_lost()
        finally:
            self._sessions.remove(session)
            await session.close()


async def _streams(fd: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = socket.socket(fileno=fd)
    try:
        return await asyncio.open_connection(sock=connection, limit=_BUFFER)
    except BaseException:
        connection.close()
        raise
