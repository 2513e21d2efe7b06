"""Streams over a virtio-serial port of the VM: frames of `coved.streams.frames` on the hypervisor's socket of that port.

Nothing is encrypted, for nobody else can reach the two ends: the socket is this user's alone, and the port the guest's root's.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from coved.streams.frames import (
    CREDIT,
    DATA,
    END,
    GRANT,
    GUEST,
    HELLO,
    MAX_DATA,
    NONCE_SIZE,
    OPEN,
    OPENED,
    PADDING,
    RESET,
    SERVE,
    WINDOW,
    Frame,
    FrameDecoder,
    FrameError,
    credit,
    frame,
    granted,
)

from cove.errors import TransportError
from cove.transport.base import Handler, Reconnecting, Stream

CONNECT_TIMEOUT_S = 60.0
HELLO_TIMEOUT_S = 5.0
"""A guest that an earlier agent left in the middle of a frame's head is greeted again."""
OPEN_TIMEOUT_S = 20.0
TAKEN = "another agent of this machine has taken its place"
log = logging.getLogger(__name__)
Dial = Callable[[float], socket.socket]
_READ_SIZE = 1 << 17
MOST = 256
"""Streams that the guest may have open to this computer's services."""


class SerialTransport(Reconnecting["_Connection"]):
    """`dial` makes a connection to the hypervisor's end of the port; it is told for how long it may try, and raises `OSError`.

    `answers_s`: in which the guest is to answer; `CONNECT_TIMEOUT_S` when it is not given.
    """

    def __init__(self, dial: Dial, answers_s: float | None = None) -> None:
        super().__init__()
        self._dial = dial
        self._answers_s = answers_s

    def open_stream(self, target: str) -> Stream:
        connection = self._connected()
        try:
            return connection.open(target)
        except TransportError:
            if not connection.broken:
                raise
        # It had broken without our knowing: once more, on a new one.
        return self._connected().open(target)

    def drop(self) -> None:
        """The guest has closed its end: whatever was open is broken. Does not block."""
        connection = self._connection
        if connection is not None:
            connection.close()

    def disconnect(self) -> None:
        """End the connection when the guest has heard of it; the next stream makes another."""
        with self._lock:
            if self._connection is not None:
                self._connection.finish()

    def _connect(self) -> _Connection:
        within_s = CONNECT_TIMEOUT_S if self._answers_s is None else self._answers_s
        return _greeted(self._dial, self._services, within_s)


def _greeted(dial: Dial, services: Mapping[str, Handler], within_s: float) -> _Connection:
    """A new connection, which the guest has answered on. Raises `TransportError`."""
    deadline = time.monotonic() + within_s
    while True:
        sock = None
        try:
            sock = dial(HELLO_TIMEOUT_S)
            sock.settimeout(HELLO_TIMEOUT_S)
            hello = frame(HELLO, 0, secrets.token_bytes(NONCE_SIZE))
            sock.sendall(PADDING + hello)
            rest = _after(sock, hello)
            sock.settimeout(None)
            sock.sendall(b"".join(frame(SERVE, 0, place.encode()) for place in services))
            return _Connection(sock, rest, services)
        except TimeoutError:
            _close(sock)
            if time.monotonic() > deadline:
                raise TransportError("the machine does not answer where its streams are served") from None
        except BlockingIOError:  # the hypervisor has others to accept first, which we gave up
            _close(sock)
            if time.monotonic() > deadline:
                raise TransportError("the hypervisor does not answer where streams are served") from None
            time.sleep(HELLO_TIMEOUT_S)
        except OSError as error:
            _close(sock)
            raise TransportError(f"no connection into the machine: {error.strerror or error}") from error


def _duration(seconds: float) -> bytes:
    """For SO_SNDTIMEO: a struct timeval, on Windows a number of milliseconds."""
    if sys.platform == "win32":
        return struct.pack("@L", int(seconds * 1000))
    return struct.pack("@ll", int(seconds), 0)


def _close(sock: socket.socket | None) -> None:
    if sock is not None:
        sock.close()


def _after(sock: socket.socket, hello: bytes) -> bytes:
    """What comes after the guest's answer. Raises `OSError`."""
    seen = b""
    deadline = time.monotonic() + HELLO_TIMEOUT_S
    while True:
        if time.monotonic() > deadline:
            raise TimeoutError
        data = sock.recv(_READ_SIZE)
        if not data:
            raise ConnectionResetError("the hypervisor closed the connection")
        seen += data
        _, found, rest = seen.partition(hello)
        if found:
            return rest
        seen = seen[1 - len(hello) :]


class _Connection:
    """One greeting's streams. A thread takes in what the guest says."""

    def __init__(self, sock: socket.socket, received: bytes, services: Mapping[str, Handler]) -> None:
        self._sock = sock
        self._services = services
        self._sending = threading.Lock()
        self._lock = threading.Lock()
        self._streams: dict[int, _SerialStream] = {}
        self._next = 1
        self._farewell = b""
        self._gone = threading.Event()
        """Nothing more comes, or the guest has answered the farewell."""
        self.broken = False
        self._why = "the connection into the machine broke"
        threading.Thread(target=self._receive, args=(received,), name="streams", daemon=True).start()

    def open(self, target: str) -> Stream:
        """Raises `TransportError`."""
        with self._lock:
            if self.broken or self._next >= GUEST:
                raise TransportError(self._why)
            stream = self._streams[self._next] = _SerialStream(self, self._next)
            self._next += 1
        try:
            self.send(frame(OPEN, stream.number, target.encode()))
            stream.wait_open()
        except OSError as error:
            stream.close()
            raise TransportError(f"{target} in the machine does not answer: {error or type(error).__name__}") from error
        return stream

    def send(self, data: bytes) -> None:
        """Raises `OSError`."""
        with self._sending:
            self._sock.sendall(data)

    def is_active(self) -> bool:
        return not self.broken

    def forget(self, number: int) -> None:
        with self._lock:
            self._streams.pop(number, None)

    def finish(self) -> None:
        """Close it with no frame half on its way; of a guest that does not read, nobody knows what it has."""
        self._farewell = secrets.token_bytes(NONCE_SIZE)
        if self._sending.acquire(timeout=HELLO_TIMEOUT_S):
            try:
                with contextlib.suppress(OSError):
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _duration(HELLO_TIMEOUT_S))
                    self._sock.sendall(frame(HELLO, 0, self._farewell))
                    self._gone.wait(HELLO_TIMEOUT_S)
            finally:
                self._sending.release()
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _receive(self, data: bytes) -> None:
        decoder = FrameDecoder()
        try:
            while True:
                for one in decoder.feed(data):
                    self._handle(one)
                data = self._sock.recv(_READ_SIZE)
                if not data:
                    break
        except (OSError, FrameError):
            pass  # all that a broken connection means follows
        with self._lock:
            self.broken = True
            streams = [*self._streams.values()]
        self._gone.set()
        for stream in streams:
            stream.handle(RESET, self._why.encode())
        self._sock.close()

    def _handle(self, one: Frame) -> None:
        if one.kind == HELLO:
            if one.payload == self._farewell:
                self._gone.set()
            return
        if one.kind == RESET and not one.stream:
            self._why = f"the connection into the machine broke: {TAKEN}"
            log.warning("%s", self._why)
            return
        if one.kind == OPEN:
            self._opened(one.stream, one.payload.decode("utf-8", "replace"))
            return
        with self._lock:
            stream = self._streams.get(one.stream)
        if stream is not None:  # and else it is over here, which the guest did not know yet
            stream.handle(one.kind, one.payload)

    def _opened(self, number: int, path: str) -> None:
        """The guest wants a service. Raises `FrameError`, `OSError`."""
        handler = self._services.get(path)
        with self._lock:
            if number < GUEST or number in self._streams:
                raise FrameError("a stream whose number is not the guest's to take")
            taken = handler is not None and sum(other >= GUEST for other in self._streams) < MOST
            if taken:
                stream = self._streams[number] = _SerialStream(self, number)
        if handler is None or not taken:
            self.send(frame(RESET, number))
            return
        try:
            threading.Thread(target=handler, args=(stream,), name="service", daemon=True).start()
        except RuntimeError:  # no more threads
            stream.close()


class _SerialStream(Stream):
    def __init__(self, connection: _Connection, number: int) -> None:
        self.number = number
        self._connection = connection
        self._changed = threading.Condition()
        self._opened = False
        self._room = WINDOW
        """Bytes that the guest takes now."""
        self._received: deque[bytes] = deque()
        self._received_size = 0
        self._taken = 0
        """Bytes that were read here and the guest was not granted again."""
        self._ended = False
        """The guest has nothing more to say."""
        self._said_end = False
        self._closed = False
        """What still comes is for nobody: the guest may not know yet."""
        self._broken = ""
        """Why, when it did not end in order."""

    def wait_open(self) -> None:
        """Raises `OSError`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._opened or self._broken, OPEN_TIMEOUT_S):
                raise TimeoutError("no answer in time")
            if not self._opened:
                raise ConnectionRefusedError(self._broken)

    def handle(self, kind: int, payload: bytes) -> None:
        """What the guest says of this stream; called by one thread. Raises `FrameError`."""
        with self._changed:
            if self._closed:
                return
            if kind == DATA:
                self._received_size += len(payload)
                if self._received_size > WINDOW or self._ended:
                    raise FrameError("data that there is no room for")
                self._received.append(payload)
            elif kind == CREDIT:
                self._room += granted(payload)
                if self._room > WINDOW:
                    raise FrameError("more credit than was used")
            elif kind == OPENED:
                self._opened = True
            elif kind == END:
                self._ended = True
            elif kind == RESET:
                self._ended = True
                self._broken = payload.decode("utf-8", "replace") or "the other side is gone"
            over = self._ended and (self._said_end or bool(self._broken))
            self._changed.notify_all()
        if over:
            self._connection.forget(self.number)

    def recv(self, size: int) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._received or self._ended)
            if not self._received:
                if self._broken:
                    raise ConnectionResetError(self._broken)
                return b""
            data = self._received.popleft()
            if len(data) > size:
                self._received.appendleft(data[size:])
                data = data[:size]
            self._received_size -= len(data)
            self._taken += len(data)
            grant = self._taken if self._taken >= GRANT and not self._ended else 0
            self._taken -= grant
        if grant:
            self._connection.send(credit(self.number, grant))
        return data

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            with self._changed:
                self._changed.wait_for(lambda: self._room or self._broken or self._said_end)
                if self._broken or self._said_end:
                    raise BrokenPipeError(self._broken or "the stream is closed")
                count = min(self._room, MAX_DATA, len(view))
                self._room -= count
            self._connection.send(frame(DATA, self.number, bytes(view[:count])))
            view = view[count:]

    def shutdown_write(self) -> None:
        with self._changed:
            if self._said_end or self._broken:
                return
            self._said_end = True
            over = self._ended
        with contextlib.suppress(OSError):  # the other side was faster
            self._connection.send(frame(END, self.number))
        if over:
            self._connection.forget(self.number)

    def close(self) -> None:
        with self._changed:
            over = self._ended and (self._said_end or bool(self._broken))
            self._ended = self._closed = True
            self._broken = self._broken or "the stream is closed"
            self._received.clear()
            self._changed.notify_all()
        if not over:
            self._connection.forget(self.number)
            with contextlib.suppress(OSError):
                self._connection.send(frame(RESET, self.number))
