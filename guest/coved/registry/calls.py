"""Blocking calls in threads that the event loop can end: by shutting down the sockets that they wait for."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TypeVar

from coved.images.streams import Aborted, OwnThreads, in_thread

T = TypeVar("T")
_local = threading.local()


class Call:
    """One call in one thread. ``give_up`` may come from any other, at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._given_up = False

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """For a thread that does a part of the call; what it waits for is watched until ``close``."""
        _local.call = self
        try:
            yield
        finally:
            del _local.call

    def close(self) -> None:
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets.clear()

    def __enter__(self) -> Call:
        _local.call = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del _local.call
        self.close()

    def watch(self, sock: socket.socket) -> None:
        """The thread is going to wait for this socket. Raises Aborted when that is pointless."""
        # Of one's own: TLS takes the descriptor over, and the connection may be closed and its number be another's.
        own = socket.socket(fileno=os.dup(sock.fileno()))
        with self._lock:
            if not self._given_up:
                self._sockets.append(own)
                return
        own.close()
        raise Aborted("the transfer was given up")

    def check(self) -> None:
        """Raises Aborted after ``give_up``."""
        if self._given_up:
            raise Aborted("the transfer was given up")

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[Callable[[], bool]]:
        """Gives its sockets up after that time; what it gives tells whether that has happened."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self._shut()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield late.is_set
        finally:
            timer.cancel()

    def _shut(self) -> None:
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


def current() -> Call:
    """The call that this thread is in."""
    call: Call = _local.call
    return call


async def in_call(function: Callable[[], T], part_of: Call | None = None) -> T:
    """Runs a function in a thread of its own. A caller that is cancelled ends it, and waits for its end.

    Args:
        part_of: a call with more parts than this, which the caller closes; without one this is all of it.
    """
    call = part_of or Call()

    def work() -> T:
        with call if part_of is None else call.going_on():
            return function()

    return await in_thread(OwnThreads(), work, call.give_up)
