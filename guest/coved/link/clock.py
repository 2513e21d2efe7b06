"""The machine's clock follows the host's.

What the host says of its time is as old as it took to be read. So the host is asked, and its clock was that far when half the time
had gone by that the answer took (RFC 4330, section 5): the error is half of that time at most.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

TOLERANCE_NS = 50_000_000
FAR_NS = 1_000_000_000
"""A clock that is so far behind is set at once, before the host is asked. One that is ahead may be right: what the host said may be old."""
ASKED = 4
"""Times, while answers take so long that they do not tell enough."""


class HostsClock:
    """``ask`` has the host asked for its time; the answer comes to :meth:`answered` with the same number."""

    def __init__(self, ask: Callable[[int], None]) -> None:
        self._ask = ask
        self._answers = False
        self._number = 0
        self._asked_at = 0
        self._left = 0

    def greeted(self, unix_ns: int, *, answers: bool) -> None:
        """As ``told``, by another agent perhaps.

        Args:
            answers: it can be asked.
        """
        self._answers = answers
        self.told(unix_ns)

    def told(self, unix_ns: int) -> None:
        """The host's time when it wrote, in nanoseconds since the epoch."""
        if not self._answers:
            _set(unix_ns, TOLERANCE_NS)
            return
        if unix_ns - time.time_ns() > FAR_NS:
            _set(unix_ns, FAR_NS)
        self._left = ASKED
        self._ask_it()

    def answered(self, number: int, unix_ns: int) -> None:
        if number != self._number or not self._asked_at:
            return  # nobody waits for it any more
        half = (time.monotonic_ns() - self._asked_at) // 2
        self._asked_at = 0
        if half > TOLERANCE_NS and self._left:
            self._ask_it()
        else:
            _set(unix_ns + half, TOLERANCE_NS + half)

    def _ask_it(self) -> None:
        self._left -= 1
        self._number += 1
        self._asked_at = time.monotonic_ns()
        self._ask(self._number)


def _set(unix_ns: int, tolerance_ns: int) -> None:
    if abs(unix_ns - time.time_ns()) > tolerance_ns:
        try:
            time.clock_settime_ns(time.CLOCK_REALTIME, unix_ns)
        except OSError as error:
            log.warning("cannot set the clock to the host's time: %s", error)
