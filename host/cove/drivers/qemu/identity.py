"""Whether a process is the QEMU that a pid file tells of: the number may have gone to another since."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

_PS_TIMEOUT_S = 5.0


def is_qemu_of(pid: int, pid_file: Path) -> bool:
    """Whether process `pid` was started with `-pidfile pid_file` (`command.build`)."""
    if pid <= 0:  # to kill(2) these are groups of processes
        return False
    if sys.platform == "linux":
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return (b"-pidfile", bytes(pid_file)) in itertools.pairwise(words)
    try:
        done = subprocess.run(
            ["ps", "-ww", "-o", "command=", "-p", str(pid)],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_PS_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"-pidfile " + bytes(pid_file) in done.stdout
