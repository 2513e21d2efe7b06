"""A tree of files on its way to a client (fsutil's sender): ``--output type=local``.

It blocks, and is used by one thread at a time. The files are of a build: whatever links there are in them, none is followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from coved.build.files.places import OPEN_DIRECTORY
from coved.buildkit import filemode
from coved.buildkit.messages import Stat

CHUNK = 32 * 1024
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BASE = stat.S_IFDIR | 0o755


class Departing:
    def __init__(self, path: Path, subfolders: Mapping[str, Path] | None = None) -> None:
        """``subfolders`` are more trees, each in a folder of its name at the top (one a platform)."""
        self._places: dict[int, tuple[Path, str]] = {}
        self._trees = {"": path} if subfolders is None else dict(sorted(subfolders.items()))

    def entries(self) -> Iterator[Stat]:
        """All, in the order in which a receiver wants them; sockets are left out. Raises OSError."""
        number = 0
        for prefix, top in self._trees.items():
            if prefix:
                yield Stat(path=prefix, mode=filemode.to_go(_BASE), mod_time=_modified(top))
                number += 1
            links: dict[tuple[int, int], str] = {}
            for path, status, target in _walk(top):
                if stat.S_ISSOCK(status.st_mode):
                    continue
                if stat.S_ISREG(status.st_mode):
                    self._places[number] = (top, path)
                    if status.st_nlink > 1:
                        target = links.setdefault((status.st_dev, status.st_ino), path)
                        target = "" if target == path else f"{prefix}/{target}" if prefix else target
                yield Stat(
                    path=f"{prefix}/{path}" if prefix else path,
                    mode=filemode.to_go(status.st_mode),
                    uid=status.st_uid,
                    gid=status.st_gid,
                    size=status.st_size if stat.S_ISREG(status.st_mode) else 0,
                    mod_time=status.st_mtime_ns,
                    linkname=target,
                    devmajor=os.major(status.st_rdev),
                    devminor=os.minor(status.st_rdev),
                )
                number += 1

    def open(self, number: int) -> int:
        """A descriptor of a regular file, for its reader to close. Raises KeyError when there is none, OSError."""
        top, path = self._places[number]
        fd = os.open(top, OPEN_DIRECTORY)
        *folders, name = path.split("/")
        for each in folders:
            try:
                child = os.open(each, OPEN_DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = child
        try:
            return os.open(name, _OPEN_FILE, dir_fd=fd)
        finally:
            os.close(fd)


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns


def _walk(top: Path) -> Iterator[tuple[str, os.stat_result, str]]:
    """Paths, what they are, and where they lead if they are symbolic links."""
    stack: list[tuple[int, str, list[str]]] = []

    def enter(fd: int, path: str) -> None:
        stack.append((fd, path, sorted(os.listdir(fd), key=os.fsencode, reverse=True)))

    enter(os.open(top, OPEN_DIRECTORY), "")
    try:
        while stack:
            fd, folder, names = stack[-1]
            if not names:
                os.close(stack.pop()[0])
                continue
            name = names.pop()
            path = f"{folder}/{name}" if folder else name
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            target = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(status.st_mode) else ""
            yield path, status, target
            if stat.S_ISDIR(status.st_mode):
                enter(os.open(name, OPEN_DIRECTORY, dir_fd=fd), path)
    finally:
        for fd, _, _ in stack:
            os.close(fd)
