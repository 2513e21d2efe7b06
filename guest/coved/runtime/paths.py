"""Paths inside a container's root, which is hostile: symbolic links in it must never lead out. openat2(2)."""

import errno
import os
import stat

from coved.runtime import syscalls

_IN_ROOT = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_MAX_LINKS = 40

made: list[str] = []
"""What this process has made for mounts, by paths from the root without links; a process makes one root at most."""


def open_in_root(root_fd: int, path: str, flags: int = os.O_PATH, *, follow: bool = True) -> int:
    """Open a path as a process whose root is ``root_fd`` would see it."""
    resolve = _IN_ROOT if follow else _IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS
    return syscalls.openat2(root_fd, path, flags, resolve)


def ensure_target(root_fd: int, path: str, *, directory: bool, follow: bool = True) -> int:
    """Open the place for a mount, made (directories 0755, an empty file) where it is missing. Links are followed
    inside the root, dangling ones too. Raises OSError."""
    try:
        return open_in_root(root_fd, path, follow=follow)
    except FileNotFoundError:
        pass
    parts = [part for part in path.split("/") if part not in ("", ".")]
    links = 0
    done: list[str] = []
    while parts:
        name = parts.pop(0)
        if name == "..":
            done = done[:-1]
            continue
        parent = open_in_root(root_fd, "/" + "/".join(done), follow=follow)
        try:
            kind = stat.S_IFMT(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
            if kind == stat.S_IFLNK:
                links += 1
                if not follow or links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                link = os.readlink(name, dir_fd=parent)
                if link.startswith("/"):
                    done = []
                parts = [part for part in link.split("/") if part not in ("", ".")] + parts
                continue
        except FileNotFoundError:
            if parts or directory:
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
            made.append("/" + "/".join([*done, name]))
        finally:
            os.close(parent)
        done.append(name)
    return open_in_root(root_fd, "/" + "/".join(done), follow=follow)
