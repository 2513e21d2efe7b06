"""Memory that the VM gives back when nothing happens in it: the kernel's caches, which hold on to it after a load.

What is free goes back to the host by itself (virtio-balloon's free page reporting, in blocks of 2 MiB); pages of files that somebody
has read or written some time do not. Nothing here is periodic: the engine's events start a timer, and it stops when it has found the VM
idle. Containers that work keep what they have.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

QUIET_S = 60.0
"""Seconds from an event until the VM is looked at."""
LOOK_S = 10.0
"""For so long it is looked at: what it does meanwhile is measured."""
MAX_WAIT_S = 960.0
"""A VM that works is looked at again after twice the time, at most this."""
IDLE = 0.95
"""The part of its processors' time in which an idle VM does nothing."""
WORTH = 64 << 20
"""Bytes of caches that stay: dropping less is not worth reading it again."""


@dataclass(frozen=True)
class Look:
    """Ticks of all processors, and those of them in which they did nothing."""

    all: int
    idle: int


class GivesBack:
    """Belongs to the event loop; ``proc`` is /proc, but for tests."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._timer: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[None] | None = None
        self._closed = False

    def happened(self) -> None:
        """Something has: to be called for each event. It costs next to nothing."""
        if self._timer is None and self._work is None:
            self._wait(QUIET_S)

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work

    def _wait(self, seconds: float) -> None:
        if not self._closed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, lambda: self._due(seconds))

    def _due(self, waited: float) -> None:
        self._timer = None
        self._work = asyncio.get_running_loop().create_task(self._look_and_give(waited))

    async def _look_and_give(self, waited: float) -> None:
        try:
            if self._cached() <= WORTH:
                return
            before = self._look()
            await asyncio.sleep(LOOK_S)
            now = self._look()
            if now.idle - before.idle < IDLE * (now.all - before.all):
                self._wait(min(2 * waited, MAX_WAIT_S))
            else:
                await asyncio.to_thread(self._drop)
        except OSError as error:
            log.warning("no memory is given back: %s", error)
        finally:
            self._work = None

    def _look(self) -> Look:
        """Raises ``OSError``."""
        ticks = [int(word) for word in (self._proc / "stat").read_text().partition("\n")[0].split()[1:9]]
        return Look(sum(ticks), ticks[3] + ticks[4])

    def _cached(self) -> int:
        """Bytes that could be free without anybody missing them (MemAvailable of proc(5), without what is free)."""
        lines = dict(line.split(":") for line in (self._proc / "meminfo").read_text().splitlines())
        available, free = (int(lines[name].split()[0]) for name in ("MemAvailable", "MemFree"))
        return (available - free) << 10

    def _drop(self) -> None:
        """Blocking. What is free then is put together to blocks that are large enough to be given back. Raises ``OSError``."""
        (self._proc / "sys/vm/drop_caches").write_text("3")
        (self._proc / "sys/vm/compact_memory").write_text("1")
