"""How many files a process may have open."""

from __future__ import annotations

import contextlib
import sys

ENOUGH = (65536, 10240)
"""The second is macOS's OPEN_MAX, beyond which it refuses any limit but its own."""


def allow_many() -> None:
    """Raise this process's limit, which those that it starts have as well, as far as may be.

    Each connection to a published port takes QEMU a descriptor and each docker client takes the agent one, but the usual limit is
    of 1,024 (Linux) or 256 (macOS), for the sake of programs that use select(2). Windows has none.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in ENOUGH:
        number = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft == resource.RLIM_INFINITY or soft >= number:
            return
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
            return
