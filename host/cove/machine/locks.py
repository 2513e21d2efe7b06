"""Locks that the operating system holds for a process and lets go of when it dies, however it dies.

flock(2) locks belong to the open file description, so a child that inherits the descriptor shares the lock; QEMU holds its
machine's `vm_lock` that way. Windows has msvcrt.locking, which is not inherited.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType

from cove.errors import MachineBusy

_RETRY_S = 0.05
_PROBES = 3
_PROBE_S = 0.002


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
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock(fd)
        except OSError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def acquire(self, timeout_s: float, what: str) -> None:
        """Take the lock, waiting at most `timeout_s`. Raises `MachineBusy`, naming `what` the lock is for.

        flock has no timeout, hence the short retries: they happen only while two commands meet.
        """
        deadline = time.monotonic() + timeout_s
        while not self.try_acquire():
            if time.monotonic() > deadline:
                raise MachineBusy(
                    f"another process has been holding {what} for {timeout_s:.0f} s",
                    f"see who it is with: fuser -v {self.path}",
                )
            time.sleep(_RETRY_S)

    def release(self) -> None:
        """Let go; a child that inherited the descriptor keeps the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def is_free(self) -> bool:
        """Whether nobody holds the lock at this moment. Those who ask at the same time do not see each other."""
        try:
            fd = os.open(self.path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            return True
        try:
            return _probe(fd)
        finally:
            os.close(fd)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    def _probe(fd: int) -> bool:
        """msvcrt has no shared locks: another who asks is told apart from a holder by being gone when asked again."""
        for _ in range(_PROBES):
            try:
                _lock(fd)
            except OSError:
                time.sleep(_PROBE_S)
                continue
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
            return True
        return False

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _probe(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
