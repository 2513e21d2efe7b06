"""Whose QEMU a process is: the number in a pid file may have gone to another since."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

_PS_TIMEOUT_S = 5.0


def machine_of(pid: int) -> str:
    """The machine whose QEMU a process is, of whatever COVE_HOME; "" when it is none, or that cannot be told. Linux only."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")
    except OSError:
        return ""
    told = dict(itertools.pairwise(words))
    name = told.get("-name", "").removeprefix("cove-")
    return name if name and Path(told.get("-pidfile", "")).parent.name == name else ""


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
