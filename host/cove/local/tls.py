"""TLS to another process of this user (`cove.local.certificates`), behind a socket as any other."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from pathlib import Path

from cove.local import certificates
from cove.local.joined import SIZE, Joined, join

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
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = Stream(raw, context)
        stream.greet()
        raw.settimeout(None)
    except BaseException:
        raw.close()
        raise
    return stream


class Stream:
    """One connection (`cove.local.joined.Far`). OpenSSL's object of a connection is for one thread at a time; waiting is done outside."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        self._raw = raw
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=certificates.NAME)
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
