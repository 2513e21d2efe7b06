"""What a 9p server of Cove's own says on its control socket: what the guest changes in the shared folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from cove.local.sockets import connect
from cove.share.watching.echoes import Echoes

log = logging.getLogger(__name__)

_READ = 1 << 16
_MAX_LINE = 64 << 10
ANSWER_S = 10.0
"""How long a server may take to begin telling; one that was started just now, on a busy computer."""


class GuestChanges:
    """One connection. The server repeats paths that the guest chose, and nothing here is done but to compare them."""

    def __init__(self, path: Path, token: str, echoes: Echoes, missed: Callable[[str], None]) -> None:
        """`missed` is called with the path of a file that the guest has closed, and of whose changes it could not be told meanwhile."""
        self._path = path
        self._token = token
        self._echoes = echoes
        self._missed = missed
        self._socket: socket.socket | None = None
        self._arrived: deque[bytes] = deque()
        """Where a thread reads, for the event loop of Windows waits for no socket; b"" is the end."""
        self._buffer = b""
        self._listening: asyncio.Future[None] | None = None

    @property
    def hears(self) -> bool:
        """Whether the server is there."""
        return self._socket is not None

    async def open(self) -> None:
        """Returns when the server tells all that the guest does from now on, or is not there."""
        made = None
        try:
            made = connect(self._path, ANSWER_S)
            made.sendall(json.dumps({"token": self._token}).encode() + b"\n")
        except OSError as error:
            if made is not None:
                made.close()
            log.warning("the server of %s does not answer: %s", self._path.stem, error.strerror)
            return
        self._socket = made
        loop = asyncio.get_running_loop()
        self._listening = loop.create_future()
        if sys.platform == "win32":
            self._arrived.clear()
            threading.Thread(target=self._hear, args=(made, loop), name="guest changes", daemon=True).start()
        else:
            made.setblocking(False)
            loop.add_reader(made, self.drain)
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._listening
        except TimeoutError:
            log.warning("the server of %s does not say what the machine does", self._path.stem)
            self.close()

    def drain(self) -> None:
        """Take in at once all that has been said."""
        while self._socket is not None:
            try:
                data = self._receive(self._socket)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                self._echoes.lost()
                return
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            if len(self._buffer) > _MAX_LINE:
                self._buffer = b""
            for line in lines:
                self._heard(line)

    def _receive(self, connection: socket.socket) -> bytes:
        """What has come; b"" at the end. Raises `OSError`."""
        if sys.platform != "win32":
            return connection.recv(_READ)
        try:
            return self._arrived.popleft()
        except IndexError:
            raise BlockingIOError from None

    def _hear(self, connection: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread, to the end."""
        data = b"-"
        while data:
            try:
                data = connection.recv(_READ)
            except OSError:
                data = b""
            self._arrived.append(data)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self.drain)

    def _heard(self, line: bytes) -> None:
        with contextlib.suppress(ValueError):
            said = json.loads(line)
            if not isinstance(said, dict):
                return
            op, path, to = said.get("op"), said.get("path", ""), said.get("to", "")
            if op == "listening":
                self._heard_begin()
            elif op == "lost":
                self._echoes.lost()
            elif op == "missed" and isinstance(path, str):
                self._missed(path)
            elif isinstance(op, str) and isinstance(path, str) and isinstance(to, str):
                self._echoes.guest_does(op, path, to)

    def _heard_begin(self) -> None:
        if self._listening is not None and not self._listening.done():
            self._listening.set_result(None)

    def close(self) -> None:
        self._heard_begin()
        if self._socket is not None:
            if sys.platform == "win32":
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)  # for who reads
            else:
                asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
