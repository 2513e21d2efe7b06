"""Names in a folder of the user's computer, where containers may put a symlink in any place at any time: none is followed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from coved.runtime import syscalls

_WITHIN = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_XDEV


class Place:
    """A mount, by its root, from which all else is opened. Raises OSError."""

    def __init__(self, point: str) -> None:
        self.root = os.open(point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.root)

    @contextlib.contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the directory that ``path`` is an entry of, and the entry's name. Raises OSError."""
        above, _, name = path.rpartition("/")
        fd = self._open(above, os.O_DIRECTORY)
        try:
            yield fd, name
        finally:
            os.close(fd)

    def directory(self, path: str) -> int:
        """A descriptor of the directory at ``path``, by which it is only found. Raises OSError."""
        return self._open(path, os.O_DIRECTORY)

    @contextlib.contextmanager
    def itself(self, path: str) -> Iterator[str]:
        """A path by which the file at ``path`` is met, be it a symlink itself. Raises OSError."""
        fd = self._open(path, os.O_NOFOLLOW)
        try:
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)

    def _open(self, path: str, flags: int) -> int:
        return syscalls.openat2(self.root, path or ".", os.O_PATH | flags, _WITHIN)
