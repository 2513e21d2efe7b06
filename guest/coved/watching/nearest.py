"""The nearest to a change that can be done where nothing can be pretended (virtiofs, QEMU's 9p) and nothing may be changed.

A file's mode is set to what it is, which is an IN_ATTRIB of the file and, by its name, of its folder; and a file that was written to
is opened for writing and closed, which is an IN_CLOSE_WRITE. What has gone can only be told as an IN_ATTRIB of the folder.
Neither contents nor times of the user's file are touched.
"""

from __future__ import annotations

import os
import stat

from coved.link.protocol import Change
from coved.watching.place import Place


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
            mode = os.stat(at).st_mode  # noqa: PTH116
            if not stat.S_ISLNK(mode):  # which has none of its own
                os.chmod(at, stat.S_IMODE(mode))  # noqa: PTH101

    def _write(self, path: str) -> None:
        with self._place.parent(self._name(path)) as (parent, name):
            fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def _above(path: str) -> str:
    return path.rpartition("/")[0]
