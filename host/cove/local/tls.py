"""TLS to another process of this user (`cove.local.certificates`), behind a socket as any other."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from pathlib import Path

from cove.local import certificates
from cove.local.joined import SIZE, Joined, join

STRANGER_S = 5.0
"""In which whoever connects shows the key."""
RECORD = 1 << 14
"""Bytes that are encrypted as one; the most that TLS has."""


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
        stream.greet()
        raw.settimeout(None)
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
        while (left := deadline - time.monotonic()) > 0:
            self._listener.settimeout(left)
            raw, _ = self._listener.accept()
            try:
                raw.settimeout(min(STRANGER_S, left))
                stream = Stream(raw, self._context, serves=True)
                stream.greet()
                raw.settimeout(None)
            except OSError:
                raw.close()
                continue
            return join(stream)
        raise TimeoutError("nobody who has the key has connected")

    def close(self) -> None:
        """May come from any thread, and twice; an `accept` that waits ends."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Stream:
    """One connection (`cove.local.joined.Far`). OpenSSL's object of a connection is for one thread at a time; waiting is done outside."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, *, serves: bool = False) -> None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if serves else certificates.NAME
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=serves, server_hostname=name)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        """Taken before `_lock`: what is encrypted first is sent first."""

    def greet(self) -> None:
        """Raises `OSError`."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._raw.sendall(self._outgoing.read())
                self._feed()
                continue
            self._raw.sendall(self._outgoing.read())
            return

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
            if not self._feed():
                return 0
            if self._outgoing.pending:  # answers of the protocol's own
                self._flush()

    def comes(self, within_s: float) -> bool:
        """Whether there is something to read, or soon will be."""
        with self._lock:
            if self._tls.pending() or self._incoming.pending:
                return True
        return bool(select.select([self._raw], [], [], within_s)[0])

    def write(self, data: bytes) -> None:
        with self._sending:
            with self._lock:
                for begin in range(0, len(data), RECORD):
                    self._tls.write(data[begin : begin + RECORD])  # into memory: all of it
                encrypted = self._outgoing.read()
            self._raw.sendall(encrypted)

    sendall = write

    def end(self) -> None:
        """Nothing that has an end at the other side goes on without this one."""
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_RDWR)
        self._raw.close()

    def _flush(self) -> None:
        with self._sending:
            with self._lock:
                encrypted = self._outgoing.read()
            if encrypted:
                self._raw.sendall(encrypted)

    def _feed(self) -> bool:
        """Take in what comes; False at the end."""
        data = self._raw.recv(SIZE)
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()
        return bool(data)
