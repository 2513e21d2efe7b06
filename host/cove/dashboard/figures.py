"""What a machine takes of this computer, measured from outside: nothing is asked of the machine for it."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cove.drivers.qemu.qcow2 import allocated
from cove.machine.paths import MachinePaths


@dataclass(frozen=True, slots=True)
class Figures:
    """`cpu` in percent of one processor, `memory` and `disk` in bytes, `read` and `written` in bytes a second; None for what this system
    does not tell, or cannot yet."""

    cpu: float | None = None
    memory: int | None = None
    disk: int | None = None
    read: float | None = None
    written: float | None = None

    def shown(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Counted:
    at: float
    pid: int
    cpu_s: float
    read: int
    written: int


class Meter:
    """Of one machine; rates are those since the last look."""

    def __init__(self, paths: MachinePaths) -> None:
        self._paths = paths
        self._before: _Counted | None = None

    def look(self, pid: int | None) -> Figures:
        """``pid``: of the VM, None when there is none."""
        disk = _allocated(self._paths.disk)
        before, self._before = self._before, None
        if pid is None or (counted := _counted(pid)) is None:
            return Figures(disk=disk)
        self._before = counted
        memory = _memory(pid)
        if before is None or before.pid != pid or counted.at <= before.at:
            return Figures(memory=memory, disk=disk)
        seconds = counted.at - before.at
        return Figures(
            100 * (counted.cpu_s - before.cpu_s) / seconds, memory, disk,
            (counted.read - before.read) / seconds, (counted.written - before.written) / seconds,
        )  # fmt: skip


def _allocated(disk: Path) -> int | None:
    try:
        return allocated(disk)
    except OSError:  # not made yet, or removed this moment
        return None


def _counted(pid: int) -> _Counted | None:
    """Of proc(5); None when there is no such process, or system."""
    if sys.platform != "linux":
        return None
    try:
        stat = _read(pid, "stat").rpartition(")")[2].split()
        io = dict(line.split(": ") for line in _read(pid, "io").splitlines())
        cpu_s = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        return _Counted(time.monotonic(), pid, cpu_s, int(io["read_bytes"]), int(io["write_bytes"]))
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _memory(pid: int) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        return int(_read(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _read(pid: int, file: str) -> str:
    with open(f"/proc/{pid}/{file}", encoding="utf-8", errors="replace") as opened:  # noqa: PTH123
        return opened.read()
