"""Byte streams into the guest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

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


class Transport(ABC):
    """A way into one guest."""

    @abstractmethod
    def open_stream(self, target: str) -> Stream:
        """A stream to the unix socket `target` in the guest. Blocks, bounded. Raises `TransportError`."""

    @abstractmethod
    def serve(self, name: str, handler: Callable[[Stream], None]) -> None:
        """Answer streams that the guest opens to this computer's service `name`, each by `handler` in a thread of its own.

        To be called before anything is opened.
        """

    @abstractmethod
    def close(self) -> None:
        """End all streams."""
