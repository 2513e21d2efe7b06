"""One engine for one data directory: flock(2), which ends with its holder."""

import fcntl
import os
from pathlib import Path

from coved.errors import Conflict


def claim(root: Path) -> int:
    """A descriptor that keeps other engines from ``root`` until it is closed. Raises Conflict when another has it."""
    fd = os.open(root / "engine.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Conflict(f"another engine uses {root}") from None
    except BaseException:
        os.close(fd)
        raise
    return fd
