"""Byte streams into the guest."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from cove.errors import TransportError

SERVICES = "/run/cove/ssh"
"""Where the guest listens for streams to this computer's services: NAME.sock, for root alone."""


class Stream(ABC):
    """One stream. Methods block; reading and writing may go on in different threads."""

    @abstractmethod
    def recv(self, size: int) -> bytes:
        """The next bytes, at most `size`; empty at the end. Raises `OSError` when the stream broke."""

    @abstractmethod
    def sendall(self, data: bytes) -> None:
        """Send everything. Raises `OSError` when the stream broke."""

    @abstractmethod
    def shutdown_write(self) -> None:
        """Tell the other side that nothing more will be sent."""

    @abstractmethod
    def close(self) -> None:
        """End the stream; a blocked `recv` returns."""


Handler = Callable[[Stream], None]


class Transport(ABC):
    """A way into one guest."""

    @abstractmethod
    def open_stream(self, target: str) -> Stream:
        """A stream to the unix socket `target` in the guest. Blocks, bounded. Raises `TransportError`."""

    @abstractmethod
    def serve(self, name: str, handler: Handler) -> None:
        """Answer streams that the guest opens to this computer's service `name`, each by `handler` in a thread of its own.

        To be called before anything is opened.
        """

    @abstractmethod
    def close(self) -> None:
        """End all streams."""


class Connection(Protocol):
    def close(self) -> None: ...
    def is_active(self) -> bool: ...


C = TypeVar("C", bound=Connection)


class Reconnecting(Transport, Generic[C]):
    """Connects when a stream is first needed, and again after the connection broke."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: C | None = None
        self._closed = False
        self._services: dict[str, Handler] = {}

    def serve(self, name: str, handler: Handler) -> None:
        self._services[f"{SERVICES}/{name}.sock"] = handler

    def connect(self) -> None:
        """Make the connection now, so that the first stream need not wait. Raises `TransportError`."""
        self._connected()

    def disconnect(self) -> None:
        """End the connection; the next stream makes another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()

    @abstractmethod
    def _connect(self) -> C:
        """A new connection. Raises `TransportError`."""

    def _connected(self) -> C:
        with self._lock:
            if self._closed:
                raise TransportError("the connection into the machine is closed")
            if self._connection is None or not self._connection.is_active():
                self._connection = self._connect()
            return self._connection
