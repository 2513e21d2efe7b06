"""What a container has changed in its image's files (``docker diff``)."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from typing import NamedTuple

from coved.runtime import syscalls

MODIFIED, ADDED, DELETED = 0, 1, 2
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_INSIDE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS


class Change(NamedTuple):
    path: str
    kind: int


def compare(upper: int, image: int, own: Collection[str]) -> list[Change]:
    """The changes in the directory ``upper`` of an overlay against the root ``image``; both are descriptors.

    ``own`` are paths (without a leading slash) that Cove itself has made there, to mount something on.
    """
    return _directory(os.dup(upper), image, "", frozenset(own))[0]


def _directory(fd: int, image: int, path: str, own: frozenset[str]) -> tuple[list[Change], bool]:
    """Changes below ``path``, and whether Cove's own places are all that there is. Closes ``fd``."""
    changes: list[Change] = []
    only_own = False
    try:
        for name in sorted(os.listdir(fd)):
            below = f"{path}/{name}" if path else name
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if below in own:
                only_own = True
                continue
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                changes.append(Change(f"/{below}", DELETED))
                continue
            before = _before(image, below)
            if not stat.S_ISDIR(status.st_mode):
                changes.append(Change(f"/{below}", ADDED if before is None else MODIFIED))
                continue
            inside, ours = _directory(os.open(name, _OPEN_DIRECTORY, dir_fd=fd), image, below, own)
            if inside or not (ours or (before is not None and _same(status, before))):
                changes.append(Change(f"/{below}", ADDED if before is None else MODIFIED))
            changes += inside
    finally:
        os.close(fd)
    return changes, only_own and not changes


def _before(image: int, path: str) -> os.stat_result | None:
    try:
        fd = syscalls.openat2(image, path, os.O_PATH | os.O_NOFOLLOW, _INSIDE)
    except OSError:
        return None
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _same(now: os.stat_result, before: os.stat_result) -> bool:
    """A directory that only holds what was changed, and was not changed itself."""
    return (
        stat.S_ISDIR(before.st_mode)
        and (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        and now.st_mtime_ns == before.st_mtime_ns
    )
