"""The sockets of one container's DNS server on the event loop. A client, or a flood of them, gets its share and no more."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable

from coved.names import message
from coved.names.message import Malformed, Query
from coved.names.responder import Responder

log = logging.getLogger(__name__)

Forward = Callable[[Query, bool], Awaitable[bytes]]
"""Asks other servers, by TCP when the second argument says so, and gives the message to send back."""

Address = tuple[str, int]

BATCH = 32
"""Datagrams that are looked at before others of the engine get their turn; the rest waits in the socket."""
CONNECTIONS = 32
"""Connections by TCP at a time; more wait to be accepted."""
IDLE_S = 10.0
"""Seconds that a connection may take for its next query, or to take an answer."""
FORWARDED = 256
"""Queries of one container that others are asked at a time; dockerd has 1024 for a container."""
_LARGEST_QUERY = 4096
_PIECE = 512
"""Octets of a stream that are looked at before others get their turn."""
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_S = 1.0


class Server:
    """Answers on two sockets, which it owns, until it is closed.

    Args:
        udp: bound, not blocking.
        tcp: listening, not blocking.
    """

    def __init__(self, udp: socket.socket, tcp: socket.socket, responder: Responder, forward: Forward) -> None:
        self._udp = udp
        self._tcp = tcp
        self._responder = responder
        self._forward = forward
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._forwarded = 0
        self._loop.add_reader(udp, self._read)
        self._loop.add_reader(tcp, self._accept)

    def close(self) -> None:
        """Answers nobody any more."""
        self._loop.remove_reader(self._udp)
        self._loop.remove_reader(self._tcp)
        for task in self._tasks:
            task.cancel()
        self._udp.close()
        self._tcp.close()

    # -- UDP

    def _read(self) -> None:
        udp = self._udp
        for _ in range(BATCH):
            try:
                data, client = udp.recvfrom(_LARGEST_QUERY)
            except OSError:  # nothing left, or a client that has closed its port
                return
            try:
                query = message.parse(data)
                reply = self._responder.answer(query, query.limit)
            except Malformed as error:
                reply = error.reply
                if reply is None:
                    continue
            if reply is None and self._forwarded >= FORWARDED:
                reply = message.failure(query, message.REFUSED)
            if reply is None:
                self._start(self._forward_datagram(query, client))
            else:
                self._send(reply, client)

    def _send(self, reply: bytes, client: Address) -> None:
        with contextlib.suppress(OSError):  # who does not take it asks again
            self._udp.sendto(reply, client)

    async def _forward_datagram(self, query: Query, client: Address) -> None:
        reply = message.fitting(query, await self._ask(query, by_tcp=False), query.limit)
        if self._udp.fileno() >= 0:
            self._send(reply, client)

    async def _ask(self, query: Query, *, by_tcp: bool) -> bytes:
        if self._forwarded >= FORWARDED:
            return message.failure(query, message.REFUSED)
        self._forwarded += 1
        try:
            return await self._forward(query, by_tcp)
        except Exception:
            log.exception("forwarding a DNS query failed")
            return message.failure(query, message.SERVER_FAILURE)
        finally:
            self._forwarded -= 1

    # -- TCP

    def _accept(self) -> None:
        try:
            connection, _ = self._tcp.accept()
        except OSError as error:
            if error.errno in _FULL:  # who waits is there still: not before the next second, as asyncio's own servers
                self._loop.remove_reader(self._tcp)
                self._loop.call_later(_PAUSE_S, self._listen)
            return
        connection.setblocking(False)
        self._connections += 1
        if self._connections == CONNECTIONS:
            self._loop.remove_reader(self._tcp)
        self._start(self._serve(connection))

    def _listen(self) -> None:
        if self._connections < CONNECTIONS and self._tcp.fileno() >= 0:
            self._loop.add_reader(self._tcp, self._accept)

    async def _serve(self, connection: socket.socket) -> None:
        waiting = bytearray()
        try:
            with contextlib.suppress(OSError):  # TimeoutError among them
                while True:
                    async with asyncio.timeout(IDLE_S):
                        more = await self._loop.sock_recv(connection, _PIECE)
                    waiting += more
                    while (data := _framed(waiting)) is not None:
                        if (reply := await self._answered(data)) is None:
                            return
                        await self._write(connection, reply)
                    if not more or int.from_bytes(waiting[:2], "big") > _LARGEST_QUERY:
                        return
                    await asyncio.sleep(0)  # a client that always has more to say does not keep the loop to itself
        finally:
            connection.close()
            self._connections -= 1
            self._listen()

    async def _answered(self, data: bytes) -> bytes | None:
        """What to say to a query that came by TCP; None: nothing more."""
        try:
            query = message.parse(data)
        except Malformed as error:
            return error.reply
        reply = self._responder.answer(query)
        return await self._ask(query, by_tcp=True) if reply is None else reply

    async def _write(self, connection: socket.socket, reply: bytes) -> None:
        data = len(reply).to_bytes(2, "big") + reply
        try:
            sent = connection.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            async with asyncio.timeout(IDLE_S):
                await self._loop.sock_sendall(connection, data[sent:])

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _framed(waiting: bytearray) -> bytes | None:
    """Takes the next query from what has come (RFC 1035, 4.2.2); None when it is not there in whole, or is too large."""
    size = 2 + int.from_bytes(waiting[:2], "big")
    if len(waiting) < size or size > 2 + _LARGEST_QUERY:
        return None
    data = bytes(waiting[2:size])
    del waiting[:size]
    return data


async def receive(connection: socket.socket, size: int) -> bytes:
    """So many bytes of a stream. Raises EOFError, OSError."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        more = await loop.sock_recv(connection, size - len(data))
        if not more:
            raise EOFError
        data += more
    return data
