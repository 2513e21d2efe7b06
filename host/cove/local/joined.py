"""A real socket in front of a stream that is none (a named pipe, TLS): two threads pass on what comes, so that whoever has it may wait
for it, time it out, and give it to an event loop, as any other socket.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Protocol

SIZE = 1 << 16


class Far(Protocol):
    """The stream. `read` and `write` are called in a thread each; both raise `OSError` when it broke."""

    def read(self) -> bytes:
        """Blocks; b"" when the other side has nothing more to say."""

    def write(self, data: bytes) -> None: ...

    def end(self) -> None:
        """Nothing more will be written."""

    def close(self) -> None:
        """May come from any thread, and twice; a `read` that waits ends."""


class Joined(socket.socket):
    """The near end. `gone` is set when the far side has hung up, or both sides have said all that they had to say: what a socket
    tells by POLLHUP (poll(2))."""

    gone: threading.Event
    _join: _Join

    def close(self) -> None:
        super().close()
        if self.fileno() < 0:  # and no file object has it
            self._join.closed()


def join(far: Far) -> Joined:
    """Raises `OSError`, and `RuntimeError` when there can be no more threads; `far` is closed then."""
    try:
        near, ours = _pair()
        joined = Joined(near.family, near.type, near.proto, near.detach())
        joined.gone = threading.Event()
        joined._join = _Join(ours, far, joined.gone)
        joined._join.start()
    except BaseException:
        far.close()
        raise
    return joined


def _pair() -> tuple[socket.socket, socket.socket]:
    """Raises `OSError`."""
    near, ours = socket.socketpair()
    # Windows' Python makes it of a listener on 127.0.0.1, and does not look who has connected to that before 3.12.5.
    if near.family == socket.AF_INET and (
        near.getpeername() != ours.getsockname() or ours.getpeername() != near.getsockname()
    ):
        near.close()
        ours.close()
        raise ConnectionAbortedError("another process has taken an end of a pair of sockets")
    return near, ours


class _Join:
    def __init__(self, ours: socket.socket, far: Far, gone: threading.Event) -> None:
        self._ours = ours
        self._far = far
        self._gone = gone
        self._lock = threading.Lock()
        self._said_all = False
        self._heard_all = False
        self._closed = False

    def start(self) -> None:
        for target in (self._out, self._in):
            threading.Thread(target=target, name="joined", daemon=True).start()

    def closed(self) -> None:
        """The near end is. What was said on it is still passed on."""
        with self._lock:
            self._closed = True
            over = self._said_all
        if over:
            self._far.close()

    def _out(self) -> None:
        try:
            while data := self._ours.recv(SIZE):
                self._far.write(data)
            with self._lock:
                self._said_all = True
                over = self._closed or self._heard_all
            self._far.end()
        except OSError:
            self._broke()
            return
        if over:
            self._over()

    def _in(self) -> None:
        try:
            while data := self._far.read():
                self._ours.sendall(data)
            with self._lock:
                self._heard_all = True
                over = self._said_all
            self._ours.shutdown(socket.SHUT_WR)
        except OSError:
            self._broke()
            return
        if over:
            self._over()

    def _over(self) -> None:
        self._gone.set()
        self._far.close()

    def _broke(self) -> None:
        self._gone.set()
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        self._far.close()
