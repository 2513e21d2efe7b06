"""Waiting until a client has read what it has been sent, without polling: unix sockets on Linux."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
import time

PATIENCE_S = 10.0
_COUNT = struct.Struct("=i")
_BEING_FREED = 64
"""What the kernel still counts of a message that has just been read, as the engine's `coved.api.taken` knows as well."""


def wait_until_taken(client: socket.socket) -> None:
    """Returns when nothing that was sent to `client` is unread, it has gone, or the patience is over; elsewhere at once."""
    if sys.platform != "linux" or client.family != socket.AF_UNIX or not _unread(client):
        return
    deadline = time.monotonic() + PATIENCE_S
    with select.epoll() as epoll:
        # A socket with something unread is writable: an edge tells that some of it has been taken (epoll(7)).
        epoll.register(client, select.EPOLLOUT | select.EPOLLET)
        while _unread(client) and (left := deadline - time.monotonic()) > 0:
            if any(events & (select.EPOLLHUP | select.EPOLLERR) for _, events in epoll.poll(left)):
                return


def _unread(client: socket.socket) -> bool:
    if sys.platform == "win32":
        return False
    import fcntl
    import termios

    with contextlib.suppress(OSError):
        (queued,) = _COUNT.unpack(fcntl.ioctl(client, termios.TIOCOUTQ, bytes(_COUNT.size)))
        return bool(queued > _BEING_FREED)
    return False
