"""The shim's event loop: epoll(7) and timers, nothing else. A shim at rest makes no system call."""

import heapq
import itertools
import select
import time
from collections.abc import Callable

Handler = Callable[[int], None]

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
PRIORITY = select.EPOLLPRI
EDGE = select.EPOLLET
HANGUP = select.EPOLLHUP | select.EPOLLERR


class Timer:
    """A call in the future that may be cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """Handlers are called with the epoll events of their descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._masks: dict[int, int] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._running = True

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call ``handler`` when one of ``events`` occurs; hang-ups and errors are always told, even with no events."""
        known = self._masks.get(fd)
        self._handlers[fd] = handler
        if known is None:
            self._epoll.register(fd, events)
        elif known != events:
            self._epoll.modify(fd, events)
        self._masks[fd] = events

    def unwatch(self, fd: int) -> None:
        """Must come before the descriptor is closed. Descriptors that are not watched are let pass."""
        if self._masks.pop(fd, None) is not None:
            del self._handlers[fd]
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        """Until :meth:`stop`."""
        while self._running:
            for fd, events in self._epoll.poll(self._timeout()):
                handler = self._handlers.get(fd)  # an earlier handler of this round may have closed it
                if handler is not None:
                    handler(events)
            self._run_timers()

    def _timeout(self) -> float:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                callback()
