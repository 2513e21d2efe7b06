"""What the guest itself did to shared files comes back from the laptop's file system as an event: here it is recognised.

A server of Cove's own says what it does for the guest before it does it; so creations, removals and moves are recognised one by
one, and what was written by the time and size that the guest left.
"""

from __future__ import annotations

import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cove.share.watching.source import Seen

K = TypeVar("K")
V = TypeVar("V")

FRESH_S = 2.0
"""How long an event may take to come; a busy computer's."""
MAX_KNOWN = 4096


class Echoes:
    """Of one shared folder. Times are of the monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._expected: OrderedDict[tuple[str, str, str], tuple[int, float]] = OrderedDict()
        """How often, and since when; the oldest first."""
        self._touched: OrderedDict[str, float] = OrderedDict()
        """Files whose attributes the guest changed."""
        self._writing: OrderedDict[str, float] = OrderedDict()
        self._written: OrderedDict[str, tuple[int, int] | None] = OrderedDict()
        self._missed = -FRESH_S

    @property
    def uncertain(self) -> bool:
        """Whether what is seen now may be what the guest did while nobody heard it. To do that again would harm what it writes."""
        return self._clock() - self._missed < FRESH_S

    def guest_does(self, op: str, path: str, to: str = "") -> None:
        """The server is about to do it, absolute paths of the host; or, for ``written``, has done it."""
        now = self._clock()
        self._forget(now)
        match op:
            case "create" | "delete" | "move":
                for key in _told_as(op, path, to):
                    _remember(self._expected, key, (self._expected.get(key, (0, now))[0] + 1, now))
                for gone in (path, to):  # who still writes to what was there writes to no name any more
                    if op != "move" or gone != path:
                        self._writing.pop(gone, None)
                        self._written.pop(gone, None)
                if op == "create":
                    _remember(self._touched, path, now)
                if op == "move":
                    self._rename(path, to)
            case "attrib":
                _remember(self._touched, path, now)
            case "write":
                _remember(self._writing, path, now)
            case "written":
                self._writing.pop(path, None)
                _remember(self._written, path, _state(path))
                _remember(self._touched, path, now)

    def lost(self) -> None:
        """Some of what the guest did was not heard of."""
        for known in (self._expected, self._touched, self._writing, self._written):
            known.clear()
        self._missed = self._clock()

    def is_echo(self, folder: Path, one: Seen) -> bool:
        self._forget(self._clock())
        path = str(folder / one.path) if one.path else str(folder)
        if one.kind in ("create", "delete", "move"):
            return self._expected_one((one.kind, path, str(folder / one.to) if one.to else ""))
        if one.kind == "attrib":
            return self._recent(path)
        if path in self._writing:
            return True
        if path not in self._written:
            return one.kind == "close" and self._recent(path)
        return self._written[path] == _state(path)

    def _expected_one(self, key: tuple[str, str, str]) -> bool:
        count, since = self._expected.get(key, (0, 0.0))
        if count > 1:
            self._expected[key] = count - 1, since
        else:
            self._expected.pop(key, None)
        return count > 0

    def _recent(self, path: str) -> bool:
        return self._clock() - self._touched.get(path, -FRESH_S) < FRESH_S

    def _rename(self, path: str, to: str) -> None:
        _carry(self._writing, path, to)
        _carry(self._written, path, to)
        _carry(self._touched, path, to)

    def _forget(self, now: float) -> None:
        while self._expected and now - next(iter(self._expected.values()))[1] > FRESH_S:
            self._expected.popitem(last=False)


def _told_as(op: str, path: str, to: str) -> list[tuple[str, str, str]]:
    """How the system tells it: Windows tells a move to another directory as what it does to each of the two."""
    if sys.platform == "win32" and op == "move" and Path(path).parent != Path(to).parent:
        return [("delete", path, ""), ("create", to, "")]
    return [(op, path, to)]


def _remember(known: OrderedDict[K, V], key: K, value: V) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > MAX_KNOWN:
        known.popitem(last=False)


def _carry(known: OrderedDict[str, V], path: str, to: str) -> None:
    if path in known:
        _remember(known, to, known.pop(path))


def _state(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
