"""Which display shows a build, and when it does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import BinaryIO, Protocol

from cove.build.status import Status
from cove.build.trace import Trace

DRAW_EVERY_S = 0.1
TICK_S = 0.15
"""After so long without news what is held back is shown, and running times are drawn again."""


class Display(Protocol):
    """What shows a build."""

    trace: Trace

    def update(self, status: Status) -> None:
        """Take in a message."""

    def refresh(self) -> None:
        """Show how things are."""

    def done(self) -> None:
        """Show what is left; nothing comes any more."""


class Quiet:
    """Shows nothing."""

    def __init__(self) -> None:
        self.trace = Trace()

    def update(self, status: Status) -> None:
        self.trace.warnings += status.warnings

    def refresh(self) -> None:
        """There is nothing to show."""

    def done(self) -> None:
        """There is nothing to show."""


def choose(mode: str, out: BinaryIO, builder: str, size: Callable[[], tuple[int, int] | None]) -> Display:
    """The display for `--progress=MODE` on `out`; `size` is that of its terminal, None for what is none. Raises
    `ValueError`.
    """
    if mode == "auto":
        mode = os.environ.get("BUILDKIT_PROGRESS") or "auto"
    if mode in ("quiet", "none"):
        return Quiet()
    if mode == "rawjson":
        from cove.build.rawjson import RawJson

        return RawJson(out)
    if mode not in ("auto", "plain", "tty"):
        raise ValueError(f"invalid progress mode {mode}")
    terminal = out.isatty()
    if mode == "tty" and not terminal:
        raise ValueError("failed to get console: provided file is not a console")
    if terminal and mode != "plain":
        from cove.build.tty import Terminal

        return Terminal(out, size, f"docker:{builder}")
    from cove.build.plain import Plain

    return Plain(out, f'building with "{builder}" instance using docker driver')


class Paced:
    """Gives messages to a display, which draws not more often than anyone can read."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self._loop = asyncio.get_running_loop()
        self._drawn = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        rate = os.environ.get("TTY_DISPLAY_RATE", "")
        self._every, self._tick = (
            (int(rate) / 1000,) * 2 if rate.isascii() and rate.isdigit() else (DRAW_EVERY_S, TICK_S)
        )

    def update(self, status: Status) -> None:
        """Take in a message."""
        self.display.update(status)
        now = self._loop.time()
        if now - self._drawn >= self._every:
            self._drawn = now
            self.display.refresh()
        self._later()

    def _later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(self._tick, 0.01), self._refresh)

    def _refresh(self) -> None:
        self.display.refresh()
        self._later()

    def done(self) -> None:
        """Nothing comes any more."""
        if self._timer is not None:
            self._timer.cancel()
        self.display.done()
