"""The link where the VM has no port for it (Hyper-V): a unix socket, to which the host comes by a stream (docs/decisions/0060)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

from coved.link.unsent import Unsent

_READ_SIZE = 1 << 16


class Doorway:
    """What `EdgePort` is, for a socket. The latest host counts: one that died may seem to be there still.

    Args:
        path: where the host comes in; for this user alone.
        on_data: told of every piece of data, in order.
        on_disconnect: told when the host is gone; what was unsent is dropped before.
    """

    def __init__(self, path: Path, on_data: Callable[[bytes], None], on_disconnect: Callable[[], None]) -> None:
        self._path = path
        self._on_data = on_data
        self._on_disconnect = on_disconnect
        self._listener: socket.socket | None = None
        self._host: socket.socket | None = None
        self._unsent = Unsent()
        self._blocked = False
        """The loop tells when the host has room again."""

    def open(self) -> None:
        """Let the host in from now on. Raises OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._path.unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                listener.bind(str(self._path))
            finally:
                os.umask(before)
            listener.listen(1)
        except BaseException:
            listener.close()
            raise
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def close(self) -> None:
        self._drop()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def reopen(self) -> None:
        """Send the host away, which comes again."""
        self._drop()

    def write(self, data: bytes) -> None:
        """Sends now what the socket takes, and the rest when it has room.

        Raises:
            ConnectionError: there is no host, or it has not read for so long that too much waits.
        """
        if self._host is None:
            raise ConnectionError("the host is not there")
        self._unsent.add(data)
        if not self._blocked:
            self._send(self._host)

    def _accept(self, listener: socket.socket) -> None:
        try:
            host, _ = listener.accept()
        except OSError:  # it has gone again
            return
        self._gone()
        host.setblocking(False)
        self._host = host
        asyncio.get_running_loop().add_reader(host, self._receive, host)

    def _receive(self, host: socket.socket) -> None:
        try:
            data = host.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_data(data)
        else:
            self._gone()

    def _send(self, host: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._unsent.send(host.send)
        except BlockingIOError:
            self._blocked = True
            loop.add_writer(host, self._send, host)
            return
        except OSError:
            self._gone()
            return
        self._blocked = False
        loop.remove_writer(host)

    def _gone(self) -> None:
        if self._host is not None:
            self._drop()
            self._on_disconnect()

    def _drop(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(host)
            loop.remove_writer(host)
            host.close()
        self._unsent.clear()
        self._blocked = False
