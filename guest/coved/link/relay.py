"""A published port that nothing else can carry, relayed from one socket to another: on the laptop those of IPv6 addresses, which
QEMU's user networking cannot bind; beside the containers those of containers without IPv4, for no kernel translates from one family
to the other.

The bytes of these connections go through the agent or the engine, those of all other ports do not. Memory is bounded: a connection
has one buffer for each direction, and nothing is read before the last has been taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import sys
from collections import OrderedDict
from typing import Any

_BUFFER = 128 << 10
_BACKLOG = 1024
_PAUSE_S = 0.1
_ONE_CLIENTS = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM)
"""What accept(2) fails with because of the one that wanted to connect."""
_RESET = struct.pack("@ii", 1, 0)
"""SO_LINGER, socket(7): closing sends a reset."""
MAX_PEERS = 1024
"""Of one UDP port; whoever has been silent for longest is forgotten."""
SILENCE_S = 90.0
"""How long a silent peer of a UDP port is remembered, as docker's proxy does."""
_DATAGRAM = 1 << 16
_QUEUE = 1 << 20


class Relay:
    """One port. Made by `listen`, which raises `OSError`; serves from `serve` to `close`."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self._inner = ("", 0)
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def listen(cls, proto: str, address: str, port: int) -> Relay:
        """At an address of either family."""
        kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
        listener = socket.socket(_family(address), kind)
        try:
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 is the hypervisor's
            if sys.platform == "win32":  # where SO_REUSEADDR would give us a port that another program has
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            elif proto == "tcp":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if proto == "udp":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE)
            listener.bind((address, port))
            return cls.at(listener)
        except OSError:
            listener.close()
            raise

    @classmethod
    def at(cls, listener: socket.socket) -> Relay:
        """At a socket that is bound already, and the relay's from now on."""
        stream = listener.type == socket.SOCK_STREAM
        if stream:
            listener.listen(_BACKLOG)
        listener.setblocking(False)
        return (StreamRelay if stream else DatagramRelay)(listener)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self, address: str, port: int) -> None:
        """Relay to this address from now on."""
        self._inner = address, port
        self._start(self._run())

    def lead(self, address: str, port: int) -> None:
        """New connections go there from now on; those of TCP that are open stay as they are."""
        self._inner = address, port

    def close(self) -> None:
        """The port is free when this returns; connections end."""
        for task in self._tasks:
            task.cancel()
        _unwatch(self.listener)
        self.listener.close()

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        raise NotImplementedError


class StreamRelay(Relay):
    """TCP. Each direction ends by itself; a reset of one side becomes one of the other."""

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self.listener)
            except OSError as error:
                if error.errno == errno.EBADF:
                    return
                if error.errno not in _ONE_CLIENTS:
                    # A shortage, mostly, and nothing tells when there is room again. One that stays must not be asked about
                    # without a pause either: nothing else would be done meanwhile.
                    await asyncio.sleep(_PAUSE_S)
                continue
            self._start(self._connection(client))

    async def _connection(self, client: socket.socket) -> None:
        with client:
            try:
                server = socket.socket(_family(self._inner[0]), socket.SOCK_STREAM)
            except OSError:  # a shortage
                _end_with_reset(client)
                return
            with server:
                await self._join(client, server)

    async def _join(self, client: socket.socket, server: socket.socket) -> None:
        try:
            for one in (client, server):
                one.setblocking(False)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(server, self._inner)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass_on(client, server))
                both.create_task(_pass_on(server, client))
        except (OSError, ExceptionGroup):
            _end_with_reset(client)
            _end_with_reset(server)


def _end_with_reset(connection: socket.socket) -> None:
    """When it is closed."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


async def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_BUFFER))
    while count := await loop.sock_recv_into(source, buffer):
        await loop.sock_sendall(sink, buffer[:count])
    sink.shutdown(socket.SHUT_WR)


class DatagramRelay(Relay):
    """UDP. Each peer has a socket of its own towards the container, by which answers find back."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener)
        self._peers: OrderedDict[Any, tuple[socket.socket, asyncio.TimerHandle]] = OrderedDict()

    async def _run(self) -> None:
        if sys.platform != "win32":
            asyncio.get_running_loop().add_reader(self.listener, self._received)
            return
        # Windows' event loop tells of no socket that something can be read from it.
        loop = asyncio.get_running_loop()
        while self.listener.fileno() >= 0:
            with contextlib.suppress(OSError):  # one that may come of an answer that nobody took
                data, peer = await loop.sock_recvfrom(self.listener, _DATAGRAM)
                self._socket(peer).send(data)
                continue
            await asyncio.sleep(_PAUSE_S)

    def lead(self, address: str, port: int) -> None:
        self._forget_all()
        super().lead(address, port)

    def close(self) -> None:
        self._forget_all()
        super().close()

    def _forget_all(self) -> None:
        for peer in [*self._peers]:
            self._forget(peer)

    def _received(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):  # then others have their turn
                try:
                    data, peer = self.listener.recvfrom(_DATAGRAM)
                    self._socket(peer).send(data)
                except BlockingIOError:
                    raise
                except OSError:
                    continue  # lost, as datagrams may be

    def _socket(self, peer: Any) -> socket.socket:
        loop = asyncio.get_running_loop()
        if known := self._peers.get(peer):
            found, timer = known
            timer.cancel()
        else:
            if len(self._peers) >= MAX_PEERS:
                self._forget(next(iter(self._peers)))
            found = socket.socket(_family(self._inner[0]), socket.SOCK_DGRAM)
            try:
                found.setblocking(False)
                found.connect(self._inner)
            except OSError:
                found.close()
                raise
            if sys.platform == "win32":
                self._start(self._answers(found, peer))
            else:
                loop.add_reader(found, self._answered, found, peer)
        self._peers[peer] = found, loop.call_later(SILENCE_S, self._forget, peer)
        self._peers.move_to_end(peer)
        return found

    def _answered(self, found: socket.socket, peer: Any) -> None:
        with contextlib.suppress(OSError):
            for _ in range(64):
                self.listener.sendto(found.recv(_DATAGRAM), peer)

    async def _answers(self, found: socket.socket, peer: Any) -> None:
        loop = asyncio.get_running_loop()
        while found.fileno() >= 0:
            with contextlib.suppress(OSError):
                self.listener.sendto(await loop.sock_recv(found, _DATAGRAM), peer)
                continue
            await asyncio.sleep(_PAUSE_S)

    def _forget(self, peer: Any) -> None:
        found, timer = self._peers.pop(peer)
        timer.cancel()
        _unwatch(found)
        found.close()


def _unwatch(one: socket.socket) -> None:
    """Before it is closed, when its number may come to mean another."""
    if sys.platform != "win32":
        asyncio.get_running_loop().remove_reader(one)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
