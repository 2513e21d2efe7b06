"""A service that has loaded what it needs and begins when PID 1 lets it: PID 1 sets the system up meanwhile, and the host may have
saved the VM in between.
"""

import gc
import os
import sys
from collections.abc import Callable

from coved.boot.services import HOLD, LOADED, open_log


def wait(name: str, rehearse: Callable[[], None] = lambda: None) -> None:
    """Return when it is time. Standard output and error are the log of ``name`` from then on.

    Args:
        rehearse: called when the machine begins, and its data disk is not there yet.
    """
    # What is loaded is never let go: looking through it, now and in what is forked, would take a part of the start.
    gc.collect()
    gc.freeze()
    os.close(LOADED)
    while os.read(HOLD, 1):
        rehearse()
    os.close(HOLD)
    log = open_log(name)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    if "random" in sys.modules:  # what it has was in the saved VM too
        sys.modules["random"].seed()
