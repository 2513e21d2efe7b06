"""What a path of ``docker cp`` means: trailing slashes, ``/.``, symbolic links (``docker cp``'s reference, "Extended description")."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from dataclasses import dataclass

from coved.errors import NotFound
from coved.runtime.paths import open_in_root
from coved.runtime.view import View

_LINKS_MAX = 255
# Go's os.FileMode, which is what clients read.
_GO_DIRECTORY, _GO_SYMLINK, _GO_DEVICE, _GO_FIFO, _GO_SOCKET = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24
_GO_SETUID, _GO_SETGID, _GO_CHARACTER, _GO_STICKY = 1 << 23, 1 << 22, 1 << 21, 1 << 20
_GO_KINDS = {
    stat.S_IFDIR: _GO_DIRECTORY,
    stat.S_IFLNK: _GO_SYMLINK,
    stat.S_IFBLK: _GO_DEVICE,
    stat.S_IFCHR: _GO_DEVICE | _GO_CHARACTER,
    stat.S_IFIFO: _GO_FIFO,
    stat.S_IFSOCK: _GO_SOCKET,
}


@dataclass(frozen=True)
class Found:
    """``parent`` is the caller's descriptor to close; ``name`` is one component in it, "." for ``parent`` itself."""

    parent: int
    name: str
    shown: str
    """What the client calls it: the last component as it was asked for, "." or "/" included."""
    status: os.stat_result
    link: str
    """For a symbolic link, where it leads in the end."""


def absolute(path: str) -> str:
    """The path from the root, cleaned, but for a slash or ``/.`` at its end, which say that links are to be followed."""
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    if base(path) == ".":
        return cleaned.rstrip("/") + "/."
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def base(path: str) -> str:
    """The last component, as Go's ``path.Base`` has it: trailing slashes do not count, and nothing is "."."""
    stripped = path.rstrip("/")
    if not stripped:
        return "/" if path else "."
    return stripped.rpartition("/")[2]


def find(view: View, path: str, reference: str) -> Found:
    """The file that ``path`` means, a symbolic link at its end not followed.

    Raises NotFound in dockerd's words, OSError.
    """
    wanted = absolute(path)
    head, _, tail = wanted.rpartition("/")
    try:
        parent = open_in_root(view.root, head or "/", os.O_RDONLY | os.O_DIRECTORY)
        name = "." if tail in ("", ".") else tail
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            link = follow(view, wanted) if stat.S_ISLNK(status.st_mode) else ""
        except BaseException:
            os.close(parent)
            raise
    except FileNotFoundError:
        raise missing(path, reference) from None
    except OSError as error:
        raise OSError(error.errno, f"lstat {wanted}: {os.strerror(error.errno or errno.EIO).lower()}") from None
    return Found(parent, name, base(wanted), status, link)


def missing(path: str, reference: str) -> NotFound:
    return NotFound(f"Could not find the file {path} in container {reference}")


def follow(view: View, path: str) -> str:
    """Where a path leads when every link is followed; what does not exist stays as it is written."""
    done: list[str] = []
    parts = path.split("/")[::-1]
    links = 0
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
            continue
        try:
            parent = open_in_root(view.root, "/" + "/".join(done))
        except OSError:
            done.append(part)
            continue
        try:
            target = os.readlink(part, dir_fd=parent)
        except OSError:
            done.append(part)
            continue
        finally:
            os.close(parent)
        links += 1
        if links > _LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            done = []
        parts += target.split("/")[::-1]
    return "/" + "/".join(done)


def go_mode(mode: int) -> int:
    """A mode of stat(2) as Go's os.FileMode."""
    result = stat.S_IMODE(mode) & 0o777 | _GO_KINDS.get(stat.S_IFMT(mode), 0)
    for bit, go in ((stat.S_ISUID, _GO_SETUID), (stat.S_ISGID, _GO_SETGID), (stat.S_ISVTX, _GO_STICKY)):
        if mode & bit:
            result |= go
    return result
