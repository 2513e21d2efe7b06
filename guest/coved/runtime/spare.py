"""A process that waits to become the next container's shim: when one is asked for, the fork and what comes with it are over."""

import os
import socket
from typing import NamedTuple

from coved.runtime import wire


class Order(NamedTuple):
    """What a spare becomes a shim for: the engine's ``connection``, its request and the compiled seccomp profile."""

    connection: socket.socket
    request: bytes
    seccomp: bytes


class Spare:
    """The spawner's end. The process ends when this does, if it has no order by then."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def give(self, order: Order) -> bool:
        """False when it is dead. It can be asked once."""
        with self._sock:
            try:
                socket.send_fds(self._sock, [b"\0"], [order.connection.fileno()])
                self._sock.sendall(wire.frame(order.request) + wire.frame(order.seccomp))
            except OSError:
                return False
        return True


class Handover:
    """The other end, in the process itself."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def wait(self) -> Order:
        """Ends the process when the spawner has ended. Raises wire.ProtocolError, OSError."""
        with self._sock:
            _, fds, _, _ = socket.recv_fds(self._sock, 1, 1)
            if not fds:
                os._exit(0)
            return Order(socket.socket(fileno=fds[0]), wire.read_frame(self._sock), wire.read_frame(self._sock))


def fork() -> Spare | Handover:
    """Gives the spawner a Spare, and the new process its Handover. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if pid == 0:
        ours.close()
        return Handover(theirs)
    theirs.close()
    return Spare(ours)
