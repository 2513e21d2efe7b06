"""Suspends a machine that nobody uses, a while after it was used last (docs/decisions/0051).

Everything that bears on it is told as it happens, and then looked at: the engine's work and containers (the link), docker's clients, who
holds the machine awake. One timer is set when all is quiet, and taken back when it is not any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wish:
    """When the settings want a machine to be suspended: seconds without use, 0 for never; and whether also with containers that run."""

    after_s: int
    running: bool = False


class Idle:
    """In the event loop.

    Args:
        wish: what the settings say now; asked when it becomes quiet, when the time is over, and when somebody has changed them.
        quiet: whether nobody uses the machine; with True also counts as such what runs and is not asked anything.
        suspend: told since when it has been quiet, in seconds since the epoch.
    """

    def __init__(
        self, wish: Callable[[], Wish], quiet: Callable[[bool], bool], suspend: Callable[[float], None]
    ) -> None:
        self._wish = wish
        self._quiet = quiet
        self._suspend = suspend
        self._timer: asyncio.TimerHandle | None = None
        self._begun = 0.0
        """By the loop's clock, which stands still while the computer sleeps."""
        self._done = False
        self.since: float | None = None
        """Since when it has been quiet, in seconds since the epoch; None when it is not."""

    def look(self) -> None:
        """Something has changed."""
        if not self._quiet(True):
            self.cancel()
            return
        wish = self._wish()
        if not self._quiet(wish.running):
            self.cancel()
            return
        if self.since is None:
            self.since, self._begun = time.time(), asyncio.get_running_loop().time()
        if self._timer is None and not self._done and wish.after_s:
            self._timer = asyncio.get_running_loop().call_at(self._begun + wish.after_s, self._over)

    def settings_changed(self) -> None:
        """Count anew with what they say now, from when it became quiet."""
        self._stop_timer()
        self.look()

    def cancel(self) -> None:
        """It is used, or there is nothing to be suspended."""
        self._stop_timer()
        self._done = False
        self.since = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self) -> None:
        self._timer = None
        wish = self._wish()  # somebody may have edited the file
        if not self._quiet(wish.running):
            self.cancel()
        if self.since is None or not wish.after_s:
            return
        if asyncio.get_running_loop().time() < self._begun + wish.after_s:
            self.look()
            return
        self._done = True  # one that cannot be suspended is not tried again and again
        self._suspend(self.since)
