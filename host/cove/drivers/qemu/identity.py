"""Whose QEMU a process is: the number in a pid file may have gone to another since."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

_PS_TIMEOUT_S = 5.0
_CLOCKS_S = 2.0
"""By which a file's time may be behind that of a process (FAT's are so coarse)."""


def machine_of(pid: int) -> str:
    """The machine whose QEMU a process is, of whatever COVE_HOME; "" when it is none, or that cannot be told. Linux only."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace").split("\0")
    except OSError:
        return ""
    told = dict(itertools.pairwise(words))
    name = told.get("-name", "").removeprefix("cove-")
    return name if name and Path(told.get("-pidfile", "")).parent.name == name else ""


if sys.platform == "win32":
    import _winapi
    import ctypes
    from ctypes import wintypes

    _QUERY_LIMITED = 0x1000
    _EPOCH_S = 11_644_473_600
    """1970 of the clock that begins with 1601."""

    def is_qemu_of(pid: int, pid_file: Path) -> bool:
        """Whether process `pid` is a QEMU that ran already when `pid_file` was written."""
        try:
            process = _winapi.OpenProcess(_QUERY_LIMITED, False, pid)
        except OSError:
            return False
        try:
            program, began = _program(process), _began(process)
            return program.startswith("qemu-system-") and began <= pid_file.stat().st_mtime + _CLOCKS_S
        except OSError:
            return False
        finally:
            _winapi.CloseHandle(process)

    def _program(process: int) -> str:
        size = wintypes.DWORD(32768)
        name = ctypes.create_unicode_buffer(size.value)
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        if not kernel.QueryFullProcessImageNameW(wintypes.HANDLE(process), 0, name, ctypes.byref(size)):
            raise ctypes.WinError(ctypes.get_last_error())
        return Path(name.value).name.lower()

    def _began(process: int) -> float:
        times = [wintypes.FILETIME() for _ in range(4)]  # its begin, its end, and what it took
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        if not kernel.GetProcessTimes(wintypes.HANDLE(process), *map(ctypes.byref, times)):
            raise ctypes.WinError(ctypes.get_last_error())
        return (times[0].dwHighDateTime << 32 | times[0].dwLowDateTime) / 10_000_000 - _EPOCH_S

else:

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
