"""This computer's shutdown waits for the machine, where the system lets it (docs/decisions/0063)."""

from __future__ import annotations

import sys
from collections.abc import Callable


class Shutdown:
    """Calls back in the event loop when this computer is about to be shut down, which waits then until `close`. Here: where no system
    can be asked to."""

    def __init__(self, coming: Callable[[], None]) -> None: ...

    def await_it(self) -> None:
        """May be called again, after `close` too."""

    def close(self) -> None:
        """No shutdown waits any more."""


def of_this_computer(coming: Callable[[], None]) -> Shutdown:
    if sys.platform == "linux":
        from cove.agent import logind

        return logind.Shutdown(coming)
    if sys.platform == "win32":
        from cove.agent import endsession

        return endsession.Shutdown(coming)
    return Shutdown(coming)
