"""Progress as dockerd streams it: one JSON message for each thing that there is to draw."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]
Report = Callable[[Message], None]

_EVERY_S = 0.1
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def message(status: str, identity: str = "") -> Message:
    """A line that stays."""
    return {"status": status, "id": identity} if identity else {"status": status}


def action(status: str, identity: str) -> Message:
    """What goes on with a layer."""
    return {"status": status, "progressDetail": {}, "id": identity}


def amount(status: str, identity: str, current: int, total: int) -> Message:
    """How far a layer is, or all of it when there is no ``identity``."""
    detail = {"current": current, "total": total} if total > 0 else {"current": current}
    told: Message = {"status": status, "progressDetail": detail, "progress": bar(current, total)}
    return {**told, "id": identity} if identity else told


def bar(current: int, total: int) -> str:
    """What docker's client draws behind a layer's name (docker/pkg/jsonmessage), for clients that show it as it is."""
    if total <= 0:
        return f"{human(current):>8}" if current > 0 else ""
    half = min(int(current / total * 100) // 2, 50)
    counted = f"{human(current):>8}/{human(total)}" if current <= total else f"{human(current):>8}"
    return f"[{'=' * half}>{' ' * (50 - half)}] {counted}"


def human(size: float) -> str:
    """Four digits and a decimal unit (docker/go-units, HumanSize)."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size /= 1000
        unit += 1
    return f"{size:.4g}{_UNITS[unit]}"


class Meter:
    """For a thread: tells ``report``, in the event loop, how far something is, ten times a second at most."""

    def __init__(self, post: Callable[[Message], None], status: str, identity: str, total: int) -> None:
        self._post = post
        self._status = status
        self._identity = identity
        self.total = total
        self._next = 0.0

    def __call__(self, current: int) -> None:
        now = time.monotonic()
        if now >= self._next or current == self.total:
            self._next = now + _EVERY_S
            self._post(amount(self._status, self._identity, current, self.total))
