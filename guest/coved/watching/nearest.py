"""The nearest to a change that can be done where nothing can be pretended (virtiofs, QEMU's 9p) and nothing may be changed.

A file's mode is set to what it is, which is an IN_ATTRIB of the file and, by its name, of its folder; and a file that was written to
is opened for writing and closed, which is an IN_CLOSE_WRITE. What has gone can only be told as an IN_ATTRIB of the folder.
Neither contents nor times of the user's file are touched.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys

from coved.link.protocol import Change
from coved.watching.place import Place

_AT_FDCWD, _FORCE_SYNC, _TYPE_AND_MODE = -100, 0x2000, 3


class Nearest:
    """Args: place: the mount; below: the watched folder in it, "" for all."""

    def __init__(self, place: Place, below: str) -> None:
        self._place = place
        self._below = below

    def do(self, change: Change) -> None:
        """Raises OSError."""
        match change.kind:
            case "create" | "attrib":
                self._touch(change.path)
            case "modify" | "close":
                self._write(change.path)
                self._touch(change.path)
            case "delete":
                self._touch(_above(change.path))
            case "move":
                self._touch(_above(change.path))
                self._touch(change.to)

    def done(self) -> None:
        """Nothing is left behind."""

    def _name(self, path: str) -> str:
        return "/".join(part for part in (self._below, path) if part)

    def _touch(self, path: str) -> None:
        with self._place.itself(self._name(path)) as at:
            mode = _mode(at)
            if not stat.S_ISLNK(mode):  # which has none of its own
                os.chmod(at, stat.S_IMODE(mode))  # noqa: PTH101

    def _write(self, path: str) -> None:
        with self._place.parent(self._name(path)) as (parent, name):
            fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def _mode(path: str) -> int:
    """As it is on the user's computer now, not as it is cached here: what is set must be what it is. Raises OSError. See statx(2)."""
    found = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statx(_AT_FDCWD, os.fsencode(path), _FORCE_SYNC, _TYPE_AND_MODE, found) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return int.from_bytes(found.raw[28:30], sys.byteorder)


def _above(path: str) -> str:
    return path.rpartition("/")[0]
