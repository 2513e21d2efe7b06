"""Ports of this computer that lead into a VM by streams, where the hypervisor forwards none (docs/decisions/0060).

Threads, for streams block: one for each port, and two for each connection. Datagrams of UDP are in a stream with their lengths before
them (`coved.streams.inside`); each peer has a stream of its own, by which answers find back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cove.drivers.base import Forward, Forwarding
from cove.errors import CoveError, DriverError, PortInUse
from cove.transport.base import Stream

log = logging.getLogger(__name__)

OpenStream = Callable[[str], Stream]
"""A stream to a place in the guest. Blocks. Raises `CoveError`."""
BACKLOG = 1024
MAX_CONNECTIONS = 1024
"""Of one TCP port at a time, each with two threads; more are reset."""
MAX_WAITING = 64
"""Datagrams of a peer whose stream is being opened."""
MAX_PEERS = 256
"""Of one UDP port; whoever has been silent for longest is forgotten."""
SILENCE_S = 90.0
"""After which a peer of a UDP port is forgotten, when another one comes."""
_CHUNK = 1 << 16
_LENGTH = struct.Struct("!H")
_RESET = struct.pack("@HH" if sys.platform == "win32" else "@ii", 1, 0)
"""SO_LINGER: closing sends a reset."""
_ENDING_S = 5.0
_PAUSE_S = 0.1


class FarStream:
    """A stream as `cove.local.joined` takes one."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def read(self) -> bytes:
        return self._stream.recv(_CHUNK)

    def write(self, data: bytes) -> None:
        self._stream.sendall(data)

    def end(self) -> None:
        self._stream.shutdown_write()

    def close(self) -> None:
        self._stream.close()


class StreamForwards(Forwarding):
    """Those of one run of a VM; they end with the agent, and are made anew by the next."""

    def __init__(self, open_stream: OpenStream) -> None:
        self._open = open_stream
        self._ports: dict[Forward, _Port] = {}

    async def forward(self, forward: Forward) -> None:
        kind = _Datagrams if forward.proto == "udp" else _Connections
        try:
            self._ports[forward] = kind(forward, self._open)
        except OSError as error:
            raise PortInUse(str(error)) from error
        except RuntimeError as error:
            raise DriverError("this computer allows no more threads") from error

    async def forwards(self) -> set[Forward]:
        return {*self._ports}

    async def unforward(self, forward: Forward) -> None:
        if (port := self._ports.pop(forward, None)) is not None:
            await asyncio.to_thread(port.close)  # which waits for who serves it

    def close(self) -> None:
        """Free all ports. Connections end with what carries them."""
        for port in self._ports.values():
            port.close()
        self._ports.clear()


class _Port:
    """One that is bound from here to `close`. Raises `OSError`, and `RuntimeError` when there can be no more threads."""

    def __init__(self, forward: Forward, open_stream: OpenStream) -> None:
        self._target = f"{forward.proto}:{forward.guest_port}"
        self._open = open_stream
        self._listener = _bound(forward)
        self._closed = False
        self._serving = threading.Thread(target=self._serve, name=self._target, daemon=True)
        try:
            self._serving.start()
        except BaseException:
            self._listener.close()
            raise

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # a thread that waits for somebody keeps the port otherwise
        self._listener.close()
        self._serving.join(_ENDING_S)

    def _serve(self) -> None:
        raise NotImplementedError


class _Connections(_Port):
    def __init__(self, forward: Forward, open_stream: OpenStream) -> None:
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(forward, open_stream)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                if self._closed or self._listener.fileno() < 0:
                    return
                log.warning("a connection to %s has to wait: %s", self._target, error.strerror)
                time.sleep(_PAUSE_S)  # nothing tells when there is room again
                continue
            if not self._room.acquire(blocking=False):
                log.warning("%s has %d connections, and takes no more", self._target, MAX_CONNECTIONS)
                _reset(client)
                continue
            try:
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()
            except RuntimeError:  # no more threads
                self._room.release()
                _reset(client)

    def _carry(self, client: socket.socket) -> None:
        try:
            self._join(client)
        finally:
            self._room.release()

    def _join(self, client: socket.socket) -> None:
        try:
            stream = self._open(self._target)
        except CoveError:
            _reset(client)
            return
        back = threading.Thread(target=_back, args=(stream, client), daemon=True)
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back.start()
            while data := client.recv(_CHUNK):
                stream.sendall(data)
            stream.shutdown_write()
            back.join()
        except (OSError, RuntimeError):
            _break_off(client)  # who reads nothing would keep `back` for ever
        finally:
            stream.close()
            if back.ident is not None:
                back.join()
            client.close()


def _back(stream: Stream, client: socket.socket) -> None:
    try:
        while data := stream.recv(_CHUNK):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
    except OSError:  # one of both is gone, and so the other has no use any more
        _break_off(client)


@dataclass(slots=True, eq=False)
class _Peer:
    """Of a UDP port. Its stream is opened in its own thread: no peer waits for another's."""

    heard: float
    waiting: list[bytes]
    """Datagrams, until there is a stream."""
    stream: Stream | None = None
    gone: bool = False


class _Datagrams(_Port):
    def __init__(self, forward: Forward, open_stream: OpenStream) -> None:
        self._peers: OrderedDict[Any, _Peer] = OrderedDict()
        self._lock = threading.Lock()
        super().__init__(forward, open_stream)

    def close(self) -> None:
        super().close()
        for address, peer in [*self._peers.items()]:
            self._forget(address, peer)

    def _serve(self) -> None:
        while not self._closed:
            try:
                data, address = self._listener.recvfrom(_CHUNK)
            except OSError:  # what was sent to somebody came back, which Windows tells here; or it is closed
                if self._listener.fileno() < 0:
                    return
                continue
            if self._closed:
                return
            with contextlib.suppress(OSError, RuntimeError):  # lost, as datagrams may be
                if (stream := self._take(address, _LENGTH.pack(len(data)) + data)) is not None:
                    stream.sendall(_LENGTH.pack(len(data)) + data)

    def _take(self, address: Any, datagram: bytes) -> Stream | None:
        """The stream that a datagram is for; None when it waits for that, or is lost. Raises `RuntimeError` for want of threads."""
        now = time.monotonic()
        with self._lock:
            peer = self._peers.pop(address, None)
            if peer is not None:
                peer.heard, self._peers[address] = now, peer
                if peer.stream is None and len(peer.waiting) < MAX_WAITING:
                    peer.waiting.append(datagram)
                return peer.stream
            oldest = next(iter(self._peers.items()), None)
        if oldest is not None and (len(self._peers) >= MAX_PEERS or now - oldest[1].heard > SILENCE_S):
            self._forget(oldest[0], oldest[1])
        peer = _Peer(now, [datagram])
        threading.Thread(target=self._answer, args=(peer, address), daemon=True).start()
        with self._lock:
            if not peer.gone:
                self._peers[address] = peer
        return None

    def _answer(self, peer: _Peer, address: Any) -> None:
        with contextlib.suppress(OSError, CoveError):
            stream = self._open(self._target)
            try:
                self._begin(peer, stream)
                while (head := _exactly(stream, _LENGTH.size)) is not None:
                    data = _exactly(stream, *_LENGTH.unpack(head))
                    if data is None:
                        break
                    self._listener.sendto(data, address)
            finally:
                stream.close()
        self._forget(address, peer)

    def _begin(self, peer: _Peer, stream: Stream) -> None:
        """Send what has waited, and from then on let it be sent by whoever hears it. Raises `OSError`."""
        while True:
            with self._lock:
                if peer.gone:
                    raise OSError("nobody wants it any more")
                if not peer.waiting:
                    peer.stream = stream
                    return
                waiting, peer.waiting = peer.waiting, []
            for datagram in waiting:
                stream.sendall(datagram)

    def _forget(self, address: Any, peer: _Peer) -> None:
        with self._lock:
            peer.gone, stream = True, peer.stream
            if self._peers.get(address) is peer:
                del self._peers[address]
        if stream is not None:
            stream.close()


def _exactly(stream: Stream, size: int) -> bytes | None:
    """None when the stream ends before. Raises `OSError`."""
    data = b""
    while len(data) < size:
        more = stream.recv(size - len(data))
        if not more:
            return None
        data += more
    return data


def _bound(forward: Forward) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if forward.proto == "udp" else socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # where the other option would let two have a port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        elif forward.proto == "tcp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((forward.host_ip, forward.host_port))
        if forward.proto == "tcp":
            made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _linger(client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _break_off(client: socket.socket) -> None:
    """Whatever waits for the client ends; its closing sends a reset."""
    _linger(client)
    if sys.platform == "win32":  # where a shutdown lets who sends go on sending, and a close does not
        client.close()
        return
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def _reset(client: socket.socket) -> None:
    _linger(client)
    client.close()
