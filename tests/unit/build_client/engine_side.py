"""The engine's end of a session, and of BuildKit's services, for tests: a pair of sockets, and gRPC on both."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from cove.build.session import Session
from coved.buildkit import messages as m
from coved.grpc.call import Call
from coved.grpc.client import Channel
from coved.grpc.server import Services

Packets = Call[m.Packet, m.Packet]


async def streams(sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(sock=sock)


@asynccontextmanager
async def calling(services: Services) -> AsyncIterator[Channel]:
    """Calls what `services` serve."""
    ours, theirs = socket.socketpair()
    serving = asyncio.ensure_future(services.serve(*await streams(theirs)))
    channel = Channel(*await streams(ours))
    try:
        async with asyncio.timeout(20):
            yield channel
    finally:
        await channel.close()
        await asyncio.wait([serving], timeout=5)


def in_session(session: Session) -> object:
    return calling(session.services)


async def fetch(
    channel: Channel, name: str, *, metadata: Sequence[tuple[str, str]] = (), wanted: Sequence[str] | None = None
) -> tuple[list[m.Stat], dict[str, bytes]]:
    """What the client says is in its tree, and the files `wanted` of it (all, with None), as an engine asks for them."""
    stats: list[m.Stat] = []
    contents: dict[str, bytes] = {}
    missing: dict[int, str] = {}
    ended = False
    async with channel.open(m.FILE_SYNC, metadata=[("dir-name", name), *metadata]) as call:
        async for packet in call:
            if packet.type == m.PACKET_STAT and packet.stat is not None:
                number, stat = len(stats), packet.stat
                stats.append(stat)
                if not stat.mode >> 20 & 0xFFF and (wanted is None or stat.path in wanted):
                    missing[number] = stat.path
                    contents[stat.path] = b""
                    await call.send(m.Packet(m.PACKET_REQ, id=number))
            elif packet.type == m.PACKET_STAT:
                ended = True
            elif packet.type == m.PACKET_DATA:
                path = missing[packet.id]
                assert len(packet.data) <= 32 * 1024
                contents[path] += packet.data
                if not packet.data:
                    del missing[packet.id]
            elif packet.type == m.PACKET_ERR:
                raise AssertionError(packet.data.decode())
            elif packet.type == m.PACKET_FIN:
                break
            if ended and not missing:
                ended = False
                await call.send(m.Packet(m.PACKET_FIN), end=True)
    return stats, contents
