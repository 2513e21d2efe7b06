"""Folders and files that the runtime made in a root, to mount something on them, and that no layer is to have.

As BuildKit does it: what was made is removed again, unless something has come into it, and a folder's time is put back. Only
/dev, /proc and /sys stay, when the command has run on a file system without them.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from coved.build.files.places import OPEN_DIRECTORY
from coved.runtime import syscalls
from coved.store.trees import OPAQUE

_STAY = ("/dev", "/proc", "/sys")
_LITERALLY = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
_OVERLAYS_OWN = "trusted.overlay."


def remove(upper: Path, lower: Sequence[Path], made: Sequence[str]) -> None:
    """Removes what was ``made`` (paths without links, those above first) from an overlay's upper directory, and folders that
    came into it by that alone. The command may have put anything in their places. Blocking; raises OSError.

    Args:
        lower: the directories below ``upper``, topmost first.
    """
    going = [path for path in reversed(made) if path not in _STAY]
    for path in going:
        _remove(upper, path)
    above = {"/".join(path.split("/")[:depth]) for path in going for depth in range(2, path.count("/") + 1)}
    for path in sorted(above - {*made}, key=lambda path: -path.count("/")):
        _forget_copy(upper, lower, path)


def _remove(upper: Path, path: str) -> None:
    with _parent(upper, path) as parent:
        name = path.rpartition("/")[2]
        if parent is None:
            return
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        before = os.fstat(parent)
        if stat.S_ISDIR(status.st_mode):
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(name, dir_fd=parent)
        elif stat.S_ISREG(status.st_mode) and not status.st_size:
            os.unlink(name, dir_fd=parent)
        os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def _forget_copy(upper: Path, lower: Sequence[Path], path: str) -> None:
    """Removes a folder without anything in it that is as the layers below have it: it says nothing."""
    with _opened(upper, path) as fd:
        if fd is None or os.listdir(fd) or _attribute(fd, OPAQUE):  # noqa: PTH208 - of a descriptor
            return
        below = next((found for root in lower if (found := _look(root, path)) is not None), None)
        if below is None or below != _description(fd):
            return
    with _parent(upper, path) as parent:
        if parent is not None:
            before = os.fstat(parent)
            os.rmdir(path.rpartition("/")[2], dir_fd=parent)
            os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def _look(root: Path, path: str) -> object | None:
    """What a layer has at a path; None when it has nothing there that is a folder."""
    with _opened(root, path) as fd:
        return None if fd is None else _description(fd)


def _description(fd: int) -> tuple[object, ...]:
    status = os.fstat(fd)
    names = sorted(name for name in os.listxattr(fd) if not name.startswith(_OVERLAYS_OWN))
    return status.st_mode, status.st_uid, status.st_gid, [(name, os.getxattr(fd, name)) for name in names]


def _attribute(fd: int, name: str) -> bytes:
    with contextlib.suppress(OSError):
        return os.getxattr(fd, name)
    return b""


def _parent(root: Path, path: str) -> contextlib.AbstractContextManager[int | None]:
    return _opened(root, path.rpartition("/")[0] or "/")


@contextlib.contextmanager
def _opened(root: Path, path: str) -> Iterator[int | None]:
    """A directory in a tree whose links are not followed; None when it is none."""
    with contextlib.ExitStack() as stack:
        top = os.open(root, OPEN_DIRECTORY)
        stack.callback(os.close, top)
        try:
            fd = syscalls.openat2(top, path, OPEN_DIRECTORY, _LITERALLY)
        except OSError:
            yield None
            return
        stack.callback(os.close, fd)
        yield fd
