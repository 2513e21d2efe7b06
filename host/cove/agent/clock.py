"""Tells when this computer's clock has jumped, as it does when the computer wakes: the VM has stood still, and its clock with it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import sys
import time
from collections.abc import Callable

TOLERANCE_NS = 50_000_000
"""The guest sets its clock for no less (`coved.link.client`)."""
_TFD_TIMER_ABSTIME, _TFD_TIMER_CANCEL_ON_SET = 1, 2
_FAR_S = 1 << 40


class ClockJumps:
    """Calls `jumped` in the event loop. Linux tells of a jump (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET); elsewhere `look`
    finds it, which is to be called when somebody comes who would notice.
    """

    def __init__(self, jumped: Callable[[], None]) -> None:
        self._jumped = jumped
        self._offset = _offset()
        self._timer = _timer()
        if self._timer >= 0:
            asyncio.get_running_loop().add_reader(self._timer, self._told)

    def look(self) -> None:
        offset = _offset()
        if abs(offset - self._offset) > TOLERANCE_NS:
            self._offset = offset
            self._jumped()

    def close(self) -> None:
        if self._timer >= 0:
            asyncio.get_running_loop().remove_reader(self._timer)
            os.close(self._timer)
            self._timer = -1

    def _told(self) -> None:
        try:
            os.read(self._timer, 8)
        except OSError as error:
            if error.errno == errno.ECANCELED:
                self._offset = _offset()
                self._jumped()
        _arm(self._timer)


def _offset() -> int:
    """Nanoseconds between the clock and one that nobody sets."""
    return time.time_ns() - time.monotonic_ns()


class _Timer(ctypes.Structure):
    """struct itimerspec"""

    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns")]


def _timer() -> int:
    """A timer on the clock that is far from its end; -1 when the system has none."""
    if sys.platform != "linux":
        return -1
    with contextlib.suppress(AttributeError):
        timer = ctypes.CDLL(None).timerfd_create(time.CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        if isinstance(timer, int) and timer >= 0:
            _arm(timer)
            return timer
    return -1


def _arm(timer: int) -> None:
    flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
    ctypes.CDLL(None).timerfd_settime(timer, flags, ctypes.byref(_Timer(0, 0, _FAR_S, 0)), None)
