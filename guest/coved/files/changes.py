"""What a container has changed in its image's files (``docker diff``)."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from typing import NamedTuple

from coved.errors import EngineError
from coved.runtime import syscalls
from coved.store.trees import is_opaque

MODIFIED, ADDED, DELETED = 0, 1, 2
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH_MAX = 512
_INSIDE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS


class Change(NamedTuple):
    path: str
    kind: int


def compare(upper: int, image: int, own: Collection[str]) -> list[Change]:
    """The changes in the directory ``upper`` of an overlay against the root ``image``; both are descriptors.

    ``own`` are paths (without a leading slash) that Cove itself has made there, to mount something on. What counts is
    what counts for dockerd: of a directory not its times, and of nothing that it was merely written again.
    Raises EngineError for directories nested too deep.
    """
    return sorted(_Comparison(image, frozenset(own)).directory(os.dup(upper), "", made_anew=False)[0])


class _Comparison:
    def __init__(self, image: int, own: frozenset[str]) -> None:
        self._image = image
        self._own = own

    def directory(self, fd: int, path: str, *, made_anew: bool) -> tuple[list[Change], bool]:
        """Changes below ``path``, and whether Cove's own places are all that there is. Closes ``fd``.

        ``made_anew``: nothing of what the image has in this directory shows.
        """
        changes: list[Change] = []
        only_own = False
        try:
            if path.count("/") >= _DEPTH_MAX:
                raise EngineError(f"directories are nested more than {_DEPTH_MAX} deep at /{path[:200]}...")
            made_anew = made_anew or is_opaque(fd)
            names = sorted(os.listdir(fd))
            for name in names:
                below = f"{path}/{name}" if path else name
                if below in self._own:
                    only_own = True
                    continue
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    is_directory = stat.S_ISDIR(status.st_mode)
                    child = os.open(name, _OPEN_DIRECTORY, dir_fd=fd) if is_directory else -1
                except (FileNotFoundError, NotADirectoryError):
                    continue  # gone since it was listed
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                    changes.append(Change(f"/{below}", DELETED))
                    continue
                inside, ours = self.directory(child, below, made_anew=made_anew) if is_directory else ([], False)
                before = _before(self._image, below)
                if inside or (not ours if before is None else _differs(status, before)):
                    changes.append(Change(f"/{below}", ADDED if before is None else MODIFIED))
                changes += inside
            if made_anew and path:
                changes += [Change(f"/{path}/{name}", DELETED) for name in self._hidden(path) - {*names}]
        finally:
            os.close(fd)
        return changes, only_own and not changes

    def _hidden(self, path: str) -> set[str]:
        """What the image has in a directory."""
        try:
            fd = syscalls.openat2(self._image, path, _OPEN_DIRECTORY, _INSIDE)
        except OSError:
            return set()
        try:
            return {*os.listdir(fd)}  # noqa: PTH208 - of a descriptor
        finally:
            os.close(fd)


def _before(image: int, path: str) -> os.stat_result | None:
    try:
        fd = syscalls.openat2(image, path, os.O_PATH | os.O_NOFOLLOW, _INSIDE)
    except OSError:
        return None
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _differs(now: os.stat_result, before: os.stat_result) -> bool:
    if (now.st_mode, now.st_uid, now.st_gid) != (before.st_mode, before.st_uid, before.st_gid):
        return True
    if stat.S_ISDIR(now.st_mode):
        return False
    return (now.st_size, now.st_mtime_ns, now.st_rdev) != (before.st_size, before.st_mtime_ns, before.st_rdev)
