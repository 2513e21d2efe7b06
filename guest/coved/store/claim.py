"""One engine for one data directory: flock(2), which ends with its last holder."""

import fcntl
import os
import signal
from pathlib import Path
from types import FrameType
from typing import NoReturn

from coved.errors import Conflict

PATIENCE_S = 10.0
"""An engine that was killed along with its supervisor has ended by then, also where the kernel has much of it to tidy up or much else to
do. Only who is refused waits so long."""


def claim(root: Path) -> int:
    """A descriptor that keeps other engines from ``root`` until it is closed, by this process and all that it forked.

    Waits a moment for one that is just ending. To be called by the main thread. Raises Conflict when another has it, OSError.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(root / "engine.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    before = signal.signal(signal.SIGALRM, _too_late)
    try:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
        fcntl.flock(fd, fcntl.LOCK_EX)
    except TimeoutError:
        os.close(fd)
        raise Conflict(f"another engine uses {root}") from None
    except BaseException:
        os.close(fd)
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return fd


def _too_late(number: int, frame: FrameType | None) -> NoReturn:
    raise TimeoutError
