"""Whether the engine has anything to do: what the host is told, so that it can suspend a machine that nobody uses.

Nobody looks at intervals: work tells of its begin and end, containers of their changes, and what may have become quiet is looked at
once, a moment later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

Level = Literal["busy", "running", "idle"]
"""``busy``: requests are under way; ``running``: containers run, of which nobody asks anything; ``idle``: neither."""

SETTLE_S = 2.0
"""Quiet lasts so long before anybody is told of it: most requests are followed by another."""


class Activity:
    """To be used from the event loop's thread.

    Args:
        running: whether there are containers that run or are about to; asked when it has become quiet.
    """

    def __init__(self, running: Callable[[], bool], settle_s: float = SETTLE_S) -> None:
        self._running = running
        self._settle_s = settle_s
        self._works = 0
        self._timer: asyncio.TimerHandle | None = None
        self._told: Callable[[Level], None] | None = None
        self.level: Level = "busy"

    def follow(self, told: Callable[[Level], None]) -> None:
        """Calls ``told`` whenever the level changes, from now on; it is "busy" until then."""
        self._told = told
        self._look_later()

    def begin(self) -> None:
        """A request is under way; ``end`` is to follow."""
        self._works += 1
        if self.level != "busy":
            self._tell("busy")

    def end(self) -> None:
        self._works -= 1
        if not self._works:
            self._look_later()

    def changed(self) -> None:
        """A container has begun to run, or has ended."""
        if not self._works:
            self._look_later()

    def close(self) -> None:
        self._told = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        # One that is under way looks soon enough, and not for each of a thousand requests is there to be another.
        if self._told is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._settle_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._works:
            self._tell("running" if self._running() else "idle")

    def _tell(self, level: Level) -> None:
        if level != self.level:
            self.level = level
            if self._told is not None:
                self._told(level)
