"""Folders of this computer for a guest that has no ports: a stream comes from there for each, to a server's process of its own here.

A stream is one session of 9p, and a folder may be mounted several times one after the other, so the server is told where each begins, as
it is on a VM's port (`cove.share.ninep.stream`).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from coved.shares.pump import MARK

from cove.drivers.base import Serve, StreamEnd
from cove.errors import DriverError
from cove.machine.paths import private_dir
from cove.transport.base import Handler, Stream

if TYPE_CHECKING:
    from cove.local.tls import Listener

_CHUNK = 1 << 17
_SIZE = 4
"""Bytes of a message's size, which comes first."""


LASTING_S = 5.0
"""A stream that ended sooner was no mount that could be used: to be asked for it again at once would be asked again and again."""
CONNECTED_S = 60.0
"""In which a server that was started has connected; what looks at each program for viruses may look at it first."""


class StreamFolders:
    """What `cove.share.manager.Folders` plugs folders in with, for as long as one connection lasts.

    `keys`: a folder for those by which servers are known where they inherit no sockets; it is made when it is needed.
    """

    def __init__(self, keys: Path) -> None:
        self._keys = keys
        self._lock = threading.Lock()
        self._servers: dict[str, _Server] = {}
        self._over: set[str] = set()
        self._on_over: Callable[[], object] = lambda: None
        self._closed = False
        self._has_keys = False

    def handler(self, tag: str) -> Handler:
        """For streams that come from there for this folder."""
        return lambda stream: self._carry(tag, stream)

    def _carry(self, tag: str, stream: Stream) -> None:
        with self._lock:
            server = self._servers.get(tag)
        if server is None:
            stream.close()
        else:
            with self._lock:
                self._over.discard(tag)
            begun = time.monotonic()
            if not server.carry(stream):
                return
            with self._lock:
                if self._servers.get(tag) is not server:
                    return  # the folder was taken away
                self._over.add(tag)
            if time.monotonic() - begun > LASTING_S:
                self._on_over()

    def on_over(self, callback: Callable[[], object]) -> None:
        """Call back, in some thread, when there is something to be told by `over` of a stream that has lasted."""
        self._on_over = callback

    def over(self) -> set[str]:
        """Tags of folders whose stream has ended since this was asked last: what the guest has mounted of it answers no more."""
        with self._lock:
            over, self._over = self._over, set()
        return over

    async def plugged(self) -> set[str]:
        if self._closed:
            raise DriverError("the connection is gone")
        return {*self._servers}

    async def plug_folder(self, tag: str) -> None:
        raise DriverError("only Cove's own server carries folders to another computer")

    async def plug_virtiofs(self, tag: str, socket: Path) -> None:
        raise DriverError("only Cove's own server carries folders to another computer")

    async def plug_stream(self, tag: str, serve: Serve) -> None:
        way = self._by_port if sys.platform == "win32" else _by_socket
        try:
            server = _Server(await asyncio.to_thread(way, serve))
        except (OSError, RuntimeError) as error:
            raise DriverError(f"the server of a folder does not connect: {error}") from error
        with self._lock:
            if not self._closed:
                self._servers[tag] = server
                return
        server.close()
        raise DriverError("the connection is gone")

    def _by_port(self, serve: Serve) -> socket.socket:
        """That to one which comes to a port of this computer, and is ended when it does not. Raises `DriverError`, `OSError`."""
        from cove.local import certificates, tls

        if not self._has_keys:
            shutil.rmtree(self._keys, ignore_errors=True)  # an earlier agent's
            certificates.make(private_dir(self._keys))
            self._has_keys = True
        with contextlib.closing(tls.Listener(self._keys)) as listener:
            process = serve(StreamEnd(-1, listener.port, self._keys))
            threading.Thread(target=_close_after, args=(process, listener), daemon=True).start()
            try:
                return listener.accept(CONNECTED_S)
            except BaseException:
                process.kill()
                process.wait()
                raise

    async def unplug(self, tag: str) -> None:
        with self._lock:
            server = self._servers.pop(tag, None)
        if server is not None:
            server.close()

    async def held_by(self) -> list[str]:
        return []

    def close(self) -> None:
        """The connection is gone: servers end."""
        self._closed = True
        with self._lock:
            servers = [*self._servers.values()]
            self._servers.clear()
        for server in servers:
            server.close()


def _by_socket(serve: Serve) -> socket.socket:
    """The connection to a server that inherits its end. Raises `DriverError`, `OSError`."""
    ours, its = socket.socketpair()
    with its:
        try:
            serve(StreamEnd(its.fileno()))
        except BaseException:
            ours.close()
            raise
    return ours


def _close_after(process: subprocess.Popen[bytes], listener: Listener) -> None:
    """Nobody waits for one that has ended."""
    process.wait()
    listener.close()


class _Server:
    """Our end of a server's socket. One thread passes on what it says."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._turn = threading.Lock()
        """Held while a stream is carried."""
        self._lock = threading.Lock()
        self._latest: Stream | None = None
        self._begun: Stream | None = None
        """For which the server was told to begin anew, and has not said yet that it does."""
        threading.Thread(target=self._back, name="folder", daemon=True).start()

    def carry(self, stream: Stream) -> bool:
        """Until its end, or until there is a later one. Whether there is none."""
        with self._lock:
            before, self._latest = self._latest, stream
        if before is not None:
            before.close()
        with self._turn, contextlib.suppress(OSError):
            with self._lock:
                if self._latest is not stream:
                    return False
                self._begun = stream
            self._end.sendall(MARK)
            while data := stream.recv(_CHUNK):
                self._end.sendall(data)
        stream.close()
        with self._lock:
            return self._latest is stream

    def _back(self) -> None:
        target: Stream | None = None
        words = Words()
        with contextlib.suppress(OSError):
            while data := self._end.recv(_CHUNK):
                for piece in words.of(data):
                    if piece is None:  # what follows is of another session
                        with self._lock:
                            target, self._begun = self._begun, None
                    elif target is not None:
                        try:
                            target.sendall(piece)
                        except OSError:  # it is over, and the rest of its answers are for nobody
                            target = None
        with self._lock:
            latest = self._latest
        if latest is not None:
            latest.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


class Words:
    """Tells where in a server's words a mark stands: between two messages, each of which begins with its size. What is in a message may
    look like a mark."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        """Bytes of the message, or of the mark, that have not come yet."""
        self._in_mark = False

    def of(self, data: bytes) -> Iterator[bytes | None]:
        """In order: pieces of messages, and None for a mark. A size that has come in part is kept back."""
        start = at = 0
        data, self._head = self._head + data, b""
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                if self._in_mark and not self._left:
                    self._in_mark = False
                    start = at
                    yield None
                elif self._in_mark:
                    start = at
                continue
            if len(data) - at < _SIZE:
                break
            size = int.from_bytes(data[at : at + _SIZE], "little")
            if data[at : at + _SIZE] == MARK[:_SIZE]:
                if start < at:
                    yield data[start:at]
                self._in_mark, self._left, start = True, len(MARK) - _SIZE, at + _SIZE
            else:
                self._left = max(0, size - _SIZE)
            at += _SIZE
        self._head = data[at:]
        if start < at:
            yield data[start:at]
