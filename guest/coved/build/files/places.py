"""Paths within a file system that is not trusted: all of them are looked up from a descriptor of its root (openat2(2)), and
no symbolic link leads out of it. docs/decisions/0017 tells why.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from coved.build.errors import BuildError
from coved.runtime import syscalls, view

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
DEPTH_MAX = 512
"""Levels of directories that are walked through, of which each takes a descriptor or two."""
_EXACTLY = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS
_LINKS_MAX = 255
_MISSING = (errno.ENOENT, errno.ENOTDIR)
# The trusted and security classes steer the kernel: of them only capabilities pass, as with layers.
ATTRIBUTES = ("user.", "security.capability", "system.posix_acl_")
"""How extended attributes begin that are copied."""


def opened(directory: Path | None, layers: Sequence[Path] = ()) -> contextlib.AbstractContextManager[int]:
    """A descriptor of a directory, or of the root that layers (topmost first) make together. Raises OSError."""
    return view.of_image([directory] if directory is not None else layers)


def describe(error: OSError) -> str:
    """A system's error in words for the user."""
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    return where + syscalls.describe(error)


def clean(path: str) -> str:
    """From the root, without ``.``, ``..`` and slashes at its ends: "a/b", or "" for the root itself."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def split(path: str) -> tuple[str, str]:
    """A clean path's folder and last name."""
    folder, _, name = path.rpartition("/")
    return folder, name


def join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


def open_exactly(root: int, path: str, flags: int = os.O_PATH) -> int:
    """Opens a clean path in which there is no symbolic link. Raises OSError (ELOOP when there is one)."""
    return syscalls.openat2(root, path or ".", flags, _EXACTLY)


def status(root: int, path: str) -> os.stat_result | None:
    """Of what a clean path names, and of a link at its end the link's; None when there is nothing. No other part of it may
    be a link. Raises OSError."""
    folder, name = split(path)
    try:
        parent = open_exactly(root, folder)
    except OSError as error:
        if error.errno in _MISSING:
            return None
        raise
    try:
        return os.stat(name or ".", dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno in _MISSING:
            return None
        raise
    finally:
        os.close(parent)


def resolve(root: int, path: str) -> str:
    """The clean path, without symbolic links in it, of what ``path`` names: those in it are followed within the root, also
    the last, and those that lead nowhere, for a file may be made there. Raises OSError, BuildError."""
    path = clean(path)
    try:
        os.close(open_exactly(root, path))
        return path
    except OSError as error:
        if error.errno not in (*_MISSING, errno.ELOOP):
            raise
    parts = path.split("/")
    done = ""
    links = 0
    while parts:
        name = parts.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            done = split(done)[0]
            continue
        here = join(done, name)
        found = status(root, here)
        if found is None or not stat.S_ISLNK(found.st_mode):
            done = here
            continue
        links += 1
        if links > _LINKS_MAX:
            raise BuildError("too many links")
        parent = open_exactly(root, done)
        try:
            link = os.readlink(name, dir_fd=parent)
        finally:
            os.close(parent)
        parts = [*link.split("/"), *parts]
        if link.startswith("/"):
            done = ""
    return done
