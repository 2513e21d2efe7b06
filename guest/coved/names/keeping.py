"""Keeps sockets through the death of the process that uses them: what comes meanwhile waits in them, and nobody is refused.

A socket that is in a message which nobody has received yet is open (unix(7), SCM_RIGHTS). The messages wait in pairs of
sockets that the engine's supervisor has made, so that they are there for the next engine; the supervisor itself does nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import zlib
from collections.abc import Sequence

log = logging.getLogger(__name__)

_BUCKETS = 16
"""A socket that is let go of is looked for among those of one bucket only."""
_SO_SNDBUFFORCE = 32  # socket(7); Python has no name for it
_QUEUE_BYTES = 8 << 20
"""What may wait in a bucket: the kernel counts some hundred bytes for a message. It takes memory only for those there are."""
_NAME_BYTES = 256
_MOST = 4
"""Sockets of one message."""


class Keeper:
    """Made before the processes fork that it is for; one of them uses it at a time."""

    def __init__(self) -> None:
        self._pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(_BUCKETS)]
        for one in (one for pair in self._pairs for one in pair):
            one.setblocking(False)
            with contextlib.suppress(PermissionError):
                one.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _QUEUE_BYTES)

    def put(self, name: str, sockets: Sequence[socket.socket]) -> None:
        """Keeps them until ``drop``. When that cannot be, it is logged, and they end with this process."""
        self._put(self._pair(name), name.encode(), [one.fileno() for one in sockets])

    def drop(self, name: str) -> None:
        """Lets go of the sockets of that name."""
        pair = self._pair(name)
        for other, files in self._received(pair):
            if other != name.encode():
                self._put(pair, other, files)
            _close(files)

    def take(self) -> dict[str, list[socket.socket]]:
        """Gives all that is kept, by name, and keeps nothing more."""
        return {
            name.decode(errors="replace"): [socket.socket(fileno=file) for file in files]
            for pair in self._pairs
            for name, files in self._received(pair)
        }

    def close(self) -> None:
        """Lets go of everything."""
        for one in (one for pair in self._pairs for one in pair):
            one.close()

    def _pair(self, name: str) -> tuple[socket.socket, socket.socket]:
        return self._pairs[zlib.crc32(name.encode()) % _BUCKETS]

    def _put(self, pair: tuple[socket.socket, socket.socket], name: bytes, files: Sequence[int]) -> None:
        try:
            socket.send_fds(pair[0], [name], files)
        except OSError as error:
            log.warning("sockets of %s will end with the engine: %s", name.decode(errors="replace"), error)

    def _received(self, pair: tuple[socket.socket, socket.socket]) -> list[tuple[bytes, list[int]]]:
        result = []
        with contextlib.suppress(BlockingIOError):
            while True:
                name, files, _, _ = socket.recv_fds(pair[1], _NAME_BYTES, _MOST)
                result.append((name, files))
        return result


def _close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)
