"""Asks other DNS servers what is not known here."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence

from coved.names import message
from coved.names.message import Query
from coved.names.server import receive

log = logging.getLogger(__name__)

PATIENCE_S = 4.5
"""Seconds for all servers together: less than the 5 s after which clients ask again (resolv.conf(5), ``timeout``)."""
HEAD_START_S = 1.0
"""Seconds after which the next server is asked as well; the first may still answer."""
SERVERS = 3
"""As many are asked; resolv.conf(5), MAXNS."""
_PORT = 53
_NEXT = (message.FORMAT_ERROR, message.SERVER_FAILURE, message.NOT_IMPLEMENTED, message.REFUSED)
"""What one server says of itself, not of the name."""
_LARGEST = 65535
_IP_RECVERR, _IPV6_RECVERR = (
    (socket.IPPROTO_IP, 11),
    (socket.IPPROTO_IPV6, 25),
)  # ip(7), ipv6(7); Python has no names for them

MakeSocket = Callable[[socket.AddressFamily, socket.SocketKind], Awaitable[socket.socket]]
"""A socket, not blocking, in the network namespace that queries shall come from. Raises OSError, EngineError."""


class Server:
    """A server to ask, and where from."""

    def __init__(self, address: str, make: MakeSocket) -> None:
        self.address = address
        self._make = make

    async def ask(self, asked: bytes, id: int, question: bytes, *, by_tcp: bool) -> bytes:
        """Its answer to one query. Raises OSError, EOFError."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        loop = asyncio.get_running_loop()
        with await self._make(family, socket.SOCK_STREAM if by_tcp else socket.SOCK_DGRAM) as made:
            if not by_tcp:  # so that it hears at once that there is no way to the server
                made.setsockopt(*(_IPV6_RECVERR if family == socket.AF_INET6 else _IP_RECVERR), 1)
            await loop.sock_connect(made, (self.address, _PORT))
            if by_tcp:
                await loop.sock_sendall(made, len(asked).to_bytes(2, "big") + asked)
                size = int.from_bytes(await receive(made, 2), "big")
                found = await receive(made, size)
                if not message.answers(found, id, question):
                    raise EOFError
                return found
            await loop.sock_sendall(made, asked)
            while True:
                found = await loop.sock_recv(made, _LARGEST)
                if message.answers(found, id, question):
                    return found


async def ask(query: Query, servers: Sequence[Server], *, by_tcp: bool) -> bytes:
    """What the first of them answers that has an answer; a server failure when none does within ``PATIENCE_S``.

    The query that is sent has the question's own bytes and an id of its own, and asks for what the client can take.
    """
    waiting = [*servers[:SERVERS]]
    last = message.failure(query, message.SERVER_FAILURE)
    head_start = min(HEAD_START_S, PATIENCE_S / max(len(waiting), 1))
    asked: set[asyncio.Task[bytes | None]] = set()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while asked or waiting:
                    if waiting:
                        asked.add(asyncio.create_task(_ask_one(query, waiting.pop(0), by_tcp=by_tcp)))
                    done, asked = await asyncio.wait(
                        asked, timeout=head_start if waiting else None, return_when=asyncio.FIRST_COMPLETED
                    )
                    for found in (one.result() for one in done):
                        if found is not None and message.code(found) not in _NEXT:
                            return found
                        last = found or last
    finally:
        for one in asked:
            one.cancel()
    return last


async def _ask_one(query: Query, server: Server, *, by_tcp: bool) -> bytes | None:
    """Its answer, with the client's id; None when there is none to be had."""
    id = secrets.randbits(16)
    try:
        found = await server.ask(message.asking(query, id), id, query.question, by_tcp=by_tcp)
    except (OSError, EOFError) as error:
        log.debug("DNS server %s: %s", server.address, error or type(error).__name__)
        return None
    return message.with_id(found, query.id)


def usable(addresses: Sequence[str]) -> list[str]:
    """Those that are addresses, but for the one that is this server's own."""
    result = []
    for address in addresses:
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            continue
        if str(parsed) != "127.0.0.11":
            result.append(address)
    return result


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
