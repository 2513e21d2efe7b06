"""`cove.share.ninep.host` for POSIX systems: descriptors are the system's, and names are used relative to them (openat(2) and its like)."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cove.share.ninep import wire
from cove.share.ninep.looks import Space, look_at, look_fd

__all__ = ["close", "look_at", "look_fd", "read", "set_times", "truncate", "write"]

HOLDS_BACK = False
"""Whether a directory that is held open keeps others from doing what they want with it."""
TIMES_AT_CLOSE = False
"""Whether a file's times are what they are to be only once what was written to is closed."""
_SAFE = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
)
"""A file may become a link, a pipe or a terminal between a look at it and its being opened."""
_ACCESS = {wire.O_RDONLY: os.O_RDONLY, wire.O_WRONLY: os.O_WRONLY, wire.O_RDWR: os.O_RDWR}
_PATH_ONLY: int = getattr(os, "O_PATH", 0)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

close = os.close


# Directories.


def open_root(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_directory(parent: int, name: bytes) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        if not _PATH_ONLY:
            raise
        return os.open(name, _DIRECTORY | _PATH_ONLY, dir_fd=parent)  # may be passed through, not read


def scan(directory: int) -> list[tuple[bytes, int, int]]:
    """Name, inode and type (`wire.DT_*`) of the entries, in the system's order."""
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_symlink():
                kind = wire.DT_LNK
            elif entry.is_dir(follow_symlinks=False):
                kind = wire.DT_DIR
            elif entry.is_file(follow_symlinks=False):
                kind = wire.DT_REG
            else:
                kind = wire.DT_UNKNOWN
            found.append((os.fsencode(entry.name), entry.inode(), kind))
    return found


def sync_directory(directory: int) -> None:
    descriptor = os.dup(directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def space(directory: int) -> Space:
    found = os.fstatvfs(directory)
    return Space(
        found.f_frsize or found.f_bsize, found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree,
        getattr(found, "f_fsid", 0), found.f_namemax,
    )  # fmt: skip


def forbidden() -> frozenset[tuple[int, int]]:
    """The devices of file systems that are windows into the host's kernel, and into this process: never served."""
    found = set()
    for place in (b"/proc", b"/sys", b"/dev", b"/sys/kernel/security", b"/sys/kernel/debug"):
        with contextlib.suppress(OSError):
            look = look_at(-1, place)
            found.add((look.device, look.minor))
    look = look_at(-1, b"/")
    return frozenset(found - {(look.device, look.minor)})


# Files.


def open_file(directory: int, name: bytes, access: int, *, truncate: bool = False) -> int:
    """A descriptor of a regular file; `access` is `wire.O_RDONLY` and so on."""
    if not look_at(directory, name).is_file:
        raise OSError(errno.EACCES, "no file")  # a device is not even opened
    descriptor = os.open(name, _ACCESS[access] | _SAFE, dir_fd=directory)
    try:
        if not look_fd(descriptor).is_file:
            raise OSError(errno.EACCES, "no file")
        if truncate:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def create_file(directory: int, name: bytes, access: int, mode: int) -> int:
    """One that is not there yet."""
    return os.open(name, _ACCESS[access] | _SAFE | os.O_CREAT | os.O_EXCL, mode, dir_fd=directory)


def reopen(descriptor: int, access: int) -> int:
    """Open once more what is open, whatever has become of its name."""
    if sys.platform != "linux":
        raise OSError(errno.ENOENT, "gone")
    return os.open(_through(descriptor), _ACCESS[access] | (_SAFE & ~os.O_NOFOLLOW))


def read(descriptor: int, count: int, offset: int) -> bytes:
    return os.pread(descriptor, count, offset)


def write(descriptor: int, data: memoryview, offset: int) -> int:
    return os.pwrite(descriptor, data, offset)


def fills(descriptor: int, offset: int) -> bool:
    """Whether a write there may take long, for the system writes all that is before it."""
    return False


def sync(descriptor: int, *, only_data: bool) -> None:
    if only_data and sys.platform == "linux":
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


truncate = os.ftruncate


# Entries.


def make_directory(parent: int, name: bytes, mode: int) -> None:
    os.mkdir(name, mode, dir_fd=parent)


def make_link(parent: int, name: bytes, target: bytes) -> None:
    os.symlink(target, name, dir_fd=parent)


def read_link(parent: int, name: bytes) -> bytes:
    return os.readlink(name, dir_fd=parent)


def make_special(parent: int, name: bytes, kind: int, mode: int) -> None:
    """A named pipe or socket, by `kind` (`stat.S_IFMT`); no devices, which are the host's."""
    if kind == stat.S_IFIFO:
        os.mkfifo(name, mode, dir_fd=parent)
    elif kind == stat.S_IFSOCK and sys.platform == "linux":
        os.mknod(name, stat.S_IFSOCK | mode, dir_fd=parent)
    else:
        raise PermissionError(errno.EPERM, "no devices")


def make_hard_link(parent: int, name: bytes, to: int, new: bytes) -> None:
    os.link(name, new, src_dir_fd=parent, dst_dir_fd=to, follow_symlinks=False)


def rename(parent: int, name: bytes, to: int, new: bytes) -> None:
    os.rename(name, new, src_dir_fd=parent, dst_dir_fd=to)


def unlink(parent: int, name: bytes) -> None:
    os.unlink(name, dir_fd=parent)


def remove_directory(parent: int, name: bytes) -> None:
    os.rmdir(name, dir_fd=parent)


# Attributes.


def chmod(descriptor: int, mode: int) -> None:
    os.fchmod(descriptor, mode)


def chmod_at(parent: int, name: bytes, mode: int) -> None:
    if stat.S_ISLNK(look_at(parent, name).mode):
        raise OSError(errno.EOPNOTSUPP, "links have no mode")
    if sys.platform != "linux":
        os.chmod(name, mode, dir_fd=parent, follow_symlinks=False)
        return
    # chmod(2) follows links; what is open is what was looked at
    with opened(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)) as handle:
        if stat.S_ISLNK(look_fd(handle).mode):
            raise OSError(errno.EOPNOTSUPP, "links have no mode")
        Path(os.fsdecode(_through(handle))).chmod(mode)


def set_times(descriptor: int, atime_ns: int, mtime_ns: int) -> None:
    os.utime(descriptor, ns=(atime_ns, mtime_ns))


def set_times_at(parent: int, name: bytes, atime_ns: int, mtime_ns: int) -> None:
    os.utime(name, ns=(atime_ns, mtime_ns), dir_fd=parent, follow_symlinks=False)


# Extended attributes, which only Linux's Python has, of an entry, or of the directory itself for no name. The path that is followed is
# the kernel's own link to what is open.


def get_xattr(parent: int, name: bytes, attribute: bytes) -> bytes:
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, "no extended attributes")
    return os.getxattr(_place(parent, name), attribute, follow_symlinks=False)


def list_xattrs(parent: int, name: bytes) -> list[bytes]:
    if sys.platform != "linux":
        return []
    try:
        return [os.fsencode(each) for each in os.listxattr(_place(parent, name), follow_symlinks=False)]
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def set_xattr(parent: int, name: bytes, attribute: bytes, value: bytes, flags: int = 0) -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, "no extended attributes")
    os.setxattr(_place(parent, name), attribute, value, flags & 3, follow_symlinks=False)


def remove_xattr(parent: int, name: bytes, attribute: bytes) -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, "no extended attributes")
    os.removexattr(_place(parent, name), attribute, follow_symlinks=False)


def _through(descriptor: int) -> bytes:
    return b"/proc/self/fd/%d" % descriptor


def _place(parent: int, name: bytes) -> bytes:
    return _through(parent) + b"/" + (name or b".")


@contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """It is closed at the end of the block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


# Of the process, and of sockets.


def open_limit() -> int:
    """How many files may be open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_open_limit() -> None:
    """As far as the system lets it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS has limits of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def send_both(connection: socket.socket, head: bytes, data: bytes) -> None:
    """All of both, without a copy of the second."""
    sent = connection.sendmsg([head, data])
    if sent < len(head):
        connection.sendall(head[sent:])
        sent = len(head)
    if sent < len(head) + len(data):
        connection.sendall(memoryview(data)[sent - len(head) :])


def send_some(connection: socket.socket, data: bytes) -> int:
    """What there is room for at once. Raises `BlockingIOError` for none."""
    return connection.send(data, socket.MSG_DONTWAIT)
