"""Locks that the operating system holds for a process and lets go of when it dies, however it dies.

A lock belongs to an open file, so a child that inherits it shares the lock; QEMU holds its machine's `vm_lock` that way. With flock(2)
the file is open as any other; on Windows it is open for nobody else (CreateFile, no share mode).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType

from cove.errors import MachineBusy

_RETRY_S = 0.05


class FileLock:
    """An exclusive lock on a file, which is created when missing and never removed (removing it would split the lock)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """The descriptor that holds the lock, for a child to inherit."""
        assert self._fd is not None, "the lock is not held"
        return self._fd

    def try_acquire(self) -> bool:
        """Take the lock if it is free and say whether we have it now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = _take(self.path)
        return self._fd is not None

    def acquire(self, timeout_s: float, what: str) -> None:
        """Take the lock, waiting at most `timeout_s`. Raises `MachineBusy`, naming `what` the lock is for.

        Neither system has a timeout for it, hence the short retries: they happen only while two commands meet.
        """
        deadline = time.monotonic() + timeout_s
        while not self.try_acquire():
            if time.monotonic() > deadline:
                raise MachineBusy(f"another process has been holding {what} for {timeout_s:.0f} s", whose(self.path))
            time.sleep(_RETRY_S)

    def release(self) -> None:
        """Let go; a child that inherited the descriptor keeps the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def is_free(self) -> bool:
        """Whether nobody holds the lock at this moment."""
        try:
            return _is_free(self.path)
        except FileNotFoundError:
            return True

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


if sys.platform == "win32":
    import _winapi
    import msvcrt

    _OPEN_ALWAYS = 4
    _SHARING_VIOLATION = 32
    _PROBES = 3
    _PROBE_S = 0.002

    def _take(path: Path) -> int | None:
        return _open(path, _OPEN_ALWAYS)

    def _is_free(path: Path) -> bool:
        """Another who asks is told apart from a holder by being gone when asked again."""
        for attempt in range(_PROBES):
            if attempt:
                time.sleep(_PROBE_S)
            if (fd := _open(path, _winapi.OPEN_EXISTING)) is not None:
                os.close(fd)
                return True
        return False

    def _open(path: Path, disposition: int) -> int | None:
        """The file, for this process and its children alone; None when another has it. Raises `OSError`."""
        try:
            handle = _winapi.CreateFile(
                str(path), _winapi.GENERIC_READ | _winapi.GENERIC_WRITE, 0, 0, disposition, 0, 0
            )  # fmt: skip
        except OSError as error:
            if error.winerror == _SHARING_VIOLATION:
                return None
            raise
        return msvcrt.open_osfhandle(handle, os.O_RDWR)

    def whose(path: Path) -> str:
        """How to see which process holds a lock."""
        return f"see who it is: Resource Monitor, tab CPU, Associated Handles: {path.name}"

else:
    import fcntl

    def _take(path: Path) -> int | None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return None
        return fd

    def _is_free(path: Path) -> bool:
        """Those who ask at the same time do not see each other."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def whose(path: Path) -> str:
        """How to see which process holds a lock."""
        return f"see who it is with: fuser -v '{path}'"
