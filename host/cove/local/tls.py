"""TLS to another process of this user (`cove.local.certificates`), behind a socket as any other."""

from __future__ import annotations

import contextlib
import errno
import select
import selectors
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

from cove.local import certificates
from cove.local.joined import SIZE, Joined, join

STRANGER_S = 5.0
"""In which whoever connects shows the key."""
MOST = 16
"""Who have connected and not shown it yet."""
RECORD = 1 << 14
"""Bytes that are encrypted as one; the most that TLS has."""

# Not epoll nor kqueue, which forget a listener that another thread closes, and who waits with it.
if sys.platform == "win32":
    _Selector = selectors.SelectSelector
else:
    _Selector = selectors.PollSelector


def connect(port: int, keys: Path, timeout_s: float) -> Joined:
    """A connection to 127.0.0.1, whose other side is known by its certificate, and which knows us by ours. Raises `OSError`."""
    return join(open_stream(port, keys, timeout_s))


def open_stream(port: int, keys: Path, timeout_s: float) -> Stream:
    """As `connect`, for who can do without a socket, and saves two threads. Raises `OSError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it verifies the certificate and the name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(keys / certificates.AUTHORITY)
    context.load_cert_chain(keys / "client-cert.pem", keys / "client-key.pem")
    raw = socket.create_connection(("127.0.0.1", port), timeout_s)
    try:
        stream = Stream(raw, context)
        stream.greet(timeout_s)
    except BaseException:
        raw.close()
        raise
    return stream


class Listener:
    """A port of 127.0.0.1 for one process of this user; whoever has no key of the folder is turned away. Raises `OSError`."""

    def __init__(self, keys: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_verify_locations(keys / certificates.AUTHORITY)
        self._context.load_cert_chain(keys / "server-cert.pem", keys / "server-key.pem")
        self._context.num_tickets = 0  # they would be sent to a client that reads only when it waits for an answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def accept(self, timeout_s: float) -> Joined:
        """The connection of who has the key, whoever else comes first. Raises `TimeoutError`, `OSError`."""
        deadline = time.monotonic() + timeout_s
        with _Strangers(self._listener, self._context) as strangers:
            while (left := deadline - time.monotonic()) > 0:
                if (stream := strangers.one_known(left)) is not None:
                    return join(stream)
        raise TimeoutError("nobody who has the key has connected")

    def close(self) -> None:
        """May come from any thread, and twice; an `accept` that waits ends."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class _Strangers:
    """Who have connected and not shown the key yet: side by side, so that nobody waits for one who is slow."""

    def __init__(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        self._listener = listener
        self._context = context
        self._until: dict[Stream, float] = {}
        self._changes = _Selector()
        listener.setblocking(False)
        try:
            self._changes.register(listener, selectors.EVENT_READ)
        except ValueError as error:
            raise OSError(errno.EBADF, "the listener is closed") from error

    def __enter__(self) -> _Strangers:
        return self

    def __exit__(self, *_: object) -> None:
        for one in [*self._until]:
            self._turn_away(one)
        self._changes.close()

    def one_known(self, within_s: float) -> Stream | None:
        """The first that shows the key, once something has changed. Raises `OSError`."""
        now = time.monotonic()
        for one in [one for one, until in self._until.items() if until <= now]:
            self._turn_away(one)
        for key, _ in self._changes.select(min([within_s, *(until - now for until in self._until.values())])):
            if key.data is None:
                self._take_in()
            elif key.data in self._until and self._hear(key.data):
                return self._let_in(key.data)
        return None

    def _take_in(self) -> None:
        try:
            raw, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # it has gone again
            return
        if len(self._until) >= MOST:
            self._turn_away(next(iter(self._until)))
        try:
            raw.setblocking(False)
            stream = Stream(raw, self._context, serves=True)
        except OSError:
            raw.close()
            return
        self._changes.register(raw, selectors.EVENT_READ, stream)
        self._until[stream] = time.monotonic() + STRANGER_S

    def _hear(self, one: Stream) -> bool:
        """Whether it has shown the key."""
        try:
            one.hear()
            return one.go_on()
        except OSError:  # also who does not take the little that there is to say
            self._turn_away(one)
            return False

    def _let_in(self, one: Stream) -> Stream:
        del self._until[one]
        self._changes.unregister(one.raw)
        one.raw.setblocking(True)
        return one

    def _turn_away(self, one: Stream) -> None:
        del self._until[one]
        self._changes.unregister(one.raw)
        one.close()


class Stream:
    """One connection (`cove.local.joined.Far`). OpenSSL's object of a connection is for one thread at a time; waiting is done outside."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, *, serves: bool = False) -> None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if serves else certificates.NAME
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=serves, server_hostname=name)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        """Taken before `_lock`: what is encrypted first is sent first."""

    def greet(self, within_s: float) -> None:
        """Have the other side show the key, and show it ours. Raises `OSError`."""
        deadline = time.monotonic() + within_s
        while not self.go_on():
            self.raw.settimeout(max(0.001, deadline - time.monotonic()))  # of a byte now and then none begins anew
            self.hear()
        self.raw.settimeout(None)

    def go_on(self) -> bool:
        """With the greeting, by what was heard: whether it is over. Raises `OSError`."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            over = False
        else:
            over = True
        self.raw.sendall(self._outgoing.read())
        return over

    def hear(self) -> bool:
        """Take in what comes; False at the end. Raises `OSError`."""
        data = self.raw.recv(SIZE)
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()
        return bool(data)

    def read(self) -> bytes:
        buffer = bytearray(SIZE)
        return bytes(buffer[: self.recv_into(memoryview(buffer))])

    def recv_into(self, buffer: memoryview) -> int:
        """As a socket's."""
        while True:
            with self._lock:
                try:
                    return self._tls.read(len(buffer), buffer)  # type: ignore[return-value] # it takes any buffer
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    return 0
            if not self.hear():
                return 0
            if self._outgoing.pending:  # answers of the protocol's own
                self._flush()

    def comes(self, within_s: float) -> bool:
        """Whether there is something to read, or soon will be."""
        with self._lock:
            if self._tls.pending() or self._incoming.pending:
                return True
        return bool(select.select([self.raw], [], [], within_s)[0])

    def write(self, data: bytes) -> None:
        with self._sending:
            with self._lock:
                for begin in range(0, len(data), RECORD):
                    self._tls.write(data[begin : begin + RECORD])  # into memory: all of it
                encrypted = self._outgoing.read()
            self.raw.sendall(encrypted)

    sendall = write

    def end(self) -> None:
        """Nothing that has an end at the other side goes on without this one."""
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.raw.shutdown(socket.SHUT_RDWR)
        self.raw.close()

    def _flush(self) -> None:
        with self._sending:
            with self._lock:
                encrypted = self._outgoing.read()
            if encrypted:
                self.raw.sendall(encrypted)
