"""Folders of this computer for an engine on another one: each is a stream that comes from there, to a server's process of its own here."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading

from cove.drivers.base import Serve, StreamEnd
from cove.errors import DriverError
from cove.transport.base import Handler, Stream

_CHUNK = 1 << 17


class StreamFolders:
    """What `cove.share.manager.Folders` plugs folders in with, for as long as one connection lasts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[str, socket.socket] = {}
        """Our ends of the servers' sockets, by tag."""
        self._waiting: set[str] = set()
        """Those that nobody has come for yet."""
        self._closed = False

    def handler(self, tag: str) -> Handler:
        """For a stream that comes from there for this folder."""
        return lambda stream: self._carry(tag, stream)

    def _carry(self, tag: str, stream: Stream) -> None:
        with self._lock:
            end = self._ends.get(tag) if tag in self._waiting else None
            self._waiting.discard(tag)
        if end is None:
            stream.close()
            return
        back = threading.Thread(target=_back, args=(end, stream), name="folder", daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := stream.recv(_CHUNK):
                end.sendall(data)
        # A session of 9p ends with its connection, and the server with the session.
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        stream.close()
        back.join()

    async def plugged(self) -> set[str]:
        if self._closed:
            raise DriverError("the connection is gone")
        return {*self._ends}

    async def plug_folder(self, tag: str) -> None:
        raise DriverError("only Cove's own server carries folders to another computer")

    async def plug_virtiofs(self, tag: str, place: object) -> None:
        raise DriverError("only Cove's own server carries folders to another computer")

    async def plug_stream(self, tag: str, serve: Serve) -> None:
        ours, its = socket.socketpair()
        with its:
            try:
                _started(serve, its)
            except BaseException:
                ours.close()
                raise
        with self._lock:
            self._ends[tag] = ours
            self._waiting.add(tag)

    async def unplug(self, tag: str) -> None:
        with self._lock:
            end = self._ends.pop(tag, None)
            self._waiting.discard(tag)
        _end(end)

    async def held_by(self) -> list[str]:
        return []

    def close(self) -> None:
        """The connection is gone: servers end."""
        self._closed = True
        with self._lock:
            ends = [*self._ends.values()]
            self._ends.clear()
            self._waiting.clear()
        for end in ends:
            _end(end)


def _started(serve: Serve, its: socket.socket) -> subprocess.Popen[bytes]:
    return serve(StreamEnd(its.fileno()))


def _end(end: socket.socket | None) -> None:
    if end is not None:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def _back(end: socket.socket, stream: Stream) -> None:
    with contextlib.suppress(OSError):
        while data := end.recv(_CHUNK):
            stream.sendall(data)
    stream.close()
