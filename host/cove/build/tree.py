"""A folder of the user's as it is sent to an engine: which entries, in which order, and what is said of each.

The order is that of Go's filepath.WalkDir, the meaning of patterns and of followed paths that of fsutil
(github.com/tonistiigi/fsutil), on which both ends of the protocol rely.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from coved.buildkit import filemode
from coved.dockerfile.ignore import Matcher
from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.wildcards import Wildcard, has_wildcards


@dataclass(frozen=True)
class Entry:
    """A file, folder or other, by its path from the root, with `/` between its parts (fsutil's Stat)."""

    path: str
    mode: int
    """Go's."""
    size: int = 0
    modified: int = 0
    """Nanoseconds since the epoch."""
    link: str = ""
    """Where a symbolic link leads; for a file, the path of an earlier one that is the same."""
    device: tuple[int, int] = (0, 0)
    attributes: dict[str, bytes] = field(default_factory=dict)

    @property
    def regular(self) -> bool:
        return not self.mode & filemode.KINDS


class Selection:
    """Which entries are wanted: those that match one of `includes` (all, when there are none) and none of `excludes`.
    Raises `DockerfileError` for what is no pattern.
    """

    def __init__(self, includes: Sequence[str] = (), excludes: Sequence[str] = ()) -> None:
        self._matchers = []
        if includes:
            # What is not included is excluded, and the matcher knows where it need not look for exceptions.
            self._matchers.append(Matcher(["**", *(_turned(pattern.strip()) for pattern in includes)]))
        if excludes:
            self._matchers.append(Matcher(excludes))

    def wants(self, path: str) -> bool:
        return not any(matcher.matches(path) for matcher in self._matchers)

    def may_want_within(self, folder: str) -> bool:
        """Whether anything in a folder that is not wanted itself may be."""
        return not any(matcher.may_skip(folder) for matcher in self._matchers)


def _turned(pattern: str) -> str:
    return pattern[1:] if pattern.startswith("!") else f"!{pattern}"


@dataclass
class _Level:
    """A folder that is being walked through."""

    entries: Iterator[tuple[str, os.stat_result]]
    untold: Entry | None
    """The folder itself, while nothing in it was wanted."""


class Tree:
    """The folder at `root`. Raises `OSError` when there is none."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve(strict=True)
        if not self.root.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(root))

    def walk(self, selection: Selection) -> Iterator[Entry]:
        """What is wanted, each folder before what is in it, also the folders around it. What vanishes meanwhile is
        passed over. Raises `OSError` for what is wanted and cannot be read.
        """
        seen: dict[tuple[int, int], str] = {}
        levels = [_Level(self._list("", wanted=True), None)]
        while levels:
            if (each := next(levels[-1].entries, None)) is None:
                levels.pop()
                continue
            path, found = each
            wanted, is_folder = selection.wants(path), stat.S_ISDIR(found.st_mode)
            inside = is_folder and (wanted or selection.may_want_within(path))
            if not (wanted or inside) or (entry := self._entry(path, found, seen)) is None:
                continue
            if wanted:
                for level in levels:
                    if level.untold is not None:
                        yield level.untold
                        level.untold = None
                yield entry
            if inside:
                levels.append(_Level(self._list(path, wanted=wanted), None if wanted else entry))

    def _list(self, folder: str, *, wanted: bool) -> Iterator[tuple[str, os.stat_result]]:
        """Paths in a folder, in their order. One that is not `wanted` itself need not be readable."""
        try:
            names = [path.name for path in (self.root / folder).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return
        except PermissionError:
            if wanted:
                raise
            return
        for name in sorted(names, key=os.fsencode):
            path = f"{folder}/{name}" if folder else name
            with suppress(FileNotFoundError, NotADirectoryError):
                yield path, os.lstat(self.root / path)

    def _entry(self, path: str, found: os.stat_result, seen: dict[tuple[int, int], str]) -> Entry | None:
        """None for what has vanished."""
        here = self.root / path
        # The receiver's archives know no sockets: one is sent as an empty file.
        kind = stat.S_IFREG if stat.S_ISSOCK(found.st_mode) else stat.S_IFMT(found.st_mode)
        mode, size, link, device = filemode.to_go(kind | stat.S_IMODE(found.st_mode)), 0, "", (0, 0)
        if sys.platform == "win32":
            mode = mode & ~0o777 | (mode & 0o777 | 0o111) & 0o755
        if not stat.S_ISDIR(found.st_mode):
            size = found.st_size
            identity = (found.st_dev, found.st_ino)
            if stat.S_ISLNK(found.st_mode):
                try:
                    link = os.readlink(here).replace(os.sep, "/")  # noqa: PTH115  # as it is: a Path changes it
                except OSError:
                    return None
            elif found.st_nlink > 1 and identity in seen:
                link, size = seen[identity], 0
            else:
                seen.setdefault(identity, path)
            if sys.platform != "win32" and (stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode)):
                device = (os.major(found.st_rdev), os.minor(found.st_rdev))
        return Entry(path, mode, size, found.st_mtime_ns, link, device, _attributes(here))

    def open(self, path: str) -> int | None:
        """A descriptor for a file that was told of; None when there is none any more. Raises `OSError`."""
        flags = os.O_RDONLY | sum(
            getattr(os, name, 0) for name in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
        )
        try:
            descriptor = os.open(self.root / path, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
                return None  # something else has taken its place, or it is a socket
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        return None

    def followed(self, paths: Sequence[str]) -> list[str] | None:
        """`paths` and, where symbolic links are among them or on the way to them, what these lead to. None means
        everything.
        """
        resolved: set[str] = set()
        for path in paths:
            self._follow(path, resolved)
        result: list[str] = []
        for path in sorted(resolved):
            if path == ".":
                return None
            if not result or not path.startswith(f"{result[-1]}/"):
                result.append(path)
        return result

    def _follow(self, path: str, resolved: set[str]) -> None:
        if sys.platform == "win32" and path[1:2] == ":":
            path = path[2:]
        parts = posixpath.normpath("/" + path.replace(os.sep, "/")).lstrip("/").split("/")
        current = "."
        for number, part in enumerate(parts):
            current = posixpath.normpath(posixpath.join(current, part)) if part else current
            targets = self._targets(current)
            rest = parts[number + 1 :]
            if (targets or not rest) and current in resolved:
                return
            if targets:
                resolved.add(current)
                for target in targets:
                    self._follow("/".join([target, *rest]), resolved)
                return
        resolved.add(current)

    def _targets(self, path: str) -> list[str]:
        """Where the symbolic links lead that `path` names, whose last part may be a wildcard."""
        folder, name = posixpath.split(path)
        if not has_wildcards(name):
            return self._target(path)
        try:
            wildcard = Wildcard(name)
        except DockerfileError:
            return []
        with suppress(OSError):
            names = sorted(each.name for each in (self.root / folder).iterdir())
            return [
                target
                for each in names
                if wildcard.matches(each)
                for target in self._target(posixpath.join(folder, each))
            ]
        return []

    def _target(self, path: str) -> list[str]:
        try:
            link = os.readlink(self.root / path).replace(os.sep, "/")  # noqa: PTH115
        except (OSError, ValueError):
            return []
        return [link if link.startswith("/") else posixpath.join("/", posixpath.dirname(path), link)]


def _attributes(path: Path) -> dict[str, bytes]:
    """Extended attributes, where the system has them and Python knows how."""
    if sys.platform != "linux":
        return {}
    result = {}
    with suppress(OSError):
        for name in os.listxattr(path, follow_symlinks=False):
            with suppress(OSError):
                result[name] = os.getxattr(path, name, follow_symlinks=False)
    return result
