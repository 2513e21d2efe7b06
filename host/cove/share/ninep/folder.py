"""What is done to the host's files, at the nodes of a `Tree`. For POSIX systems.

Links are never followed. All methods raise `OSError` with the host's numbers. What is made belongs to the user who runs this.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from pathlib import Path

from cove.share.ninep import wire
from cove.share.ninep.looks import Look, look_at, look_fd
from cove.share.ninep.tree import Node, Tree, opened

_SAFE = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
)
"""A file may become a link, a pipe or a terminal between a look at it and its being opened."""
_ACCESS = {wire.O_RDONLY: os.O_RDONLY, wire.O_WRONLY: os.O_WRONLY, wire.O_RDWR: os.O_RDWR}
FILE_MODE = 0o777
"""Of modes of files, what is set and shown: a program of a container must not become one of the user on the host that runs with
the user's rights (set-user-id), nor one of the host such a program in a container."""
DIRECTORY_MODE = 0o3777
XATTR_PREFIX = b"user."


class Folder:
    """The host's files below a folder.

    `read_only` is for the session to hold: here it is only told.
    """

    def __init__(self, root: int, *, read_only: bool = False) -> None:
        self.tree = Tree(root)
        self.read_only = read_only
        self._devices: dict[tuple[int, int], int] = {}
        self._forbidden = _kernels()

    def close(self) -> None:
        self.tree.close()

    # Looking.

    def look(self, node: Node) -> Look:
        """What is at a node now."""
        if node.parent is None:
            return look_fd(self.tree.directory(node))
        found = look_at(self.tree.directory(node.parent), node.name)
        if (found.device, found.minor) in self._forbidden:
            raise PermissionError(errno.EACCES, "a file system of the kernel")
        return found

    def look_below(self, parent: Node, name: bytes) -> Look:
        """What an entry of a directory is."""
        found = look_at(self.tree.directory(parent), name)
        if (found.device, found.minor) in self._forbidden:
            raise PermissionError(errno.EACCES, "a file system of the kernel")
        return found

    def number(self, look: Look) -> int:
        """A number for a file, of 64 bits: its inode's, with a number for its file system in front."""
        if look.ino >> 48:  # some file systems use all 64 bits
            return hash((look.device, look.minor, look.ino)) & 0xFFFFFFFFFFFFFFFF
        device = (look.device, look.minor)
        place = self._devices.get(device)
        if place is None:
            place = self._devices[device] = len(self._devices)
        return (place & 0xFFFF) << 48 | look.ino

    def names(self, node: Node) -> list[tuple[bytes, int, int]]:
        """Name, inode and type (`wire.DT_*`) of a directory's entries, in the host's order."""
        found = []
        with os.scandir(self.tree.directory(node)) as entries:
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

    def link_target(self, node: Node) -> bytes:
        return os.readlink(node.name, dir_fd=self._parent(node))

    def space(self) -> os.statvfs_result:
        return os.fstatvfs(self.tree.root.descriptor)

    # Files.

    def open(self, node: Node, access: int, *, truncate: bool = False) -> int:
        """A descriptor of a regular file; `access` is `wire.O_RDONLY` and so on."""
        flags = _ACCESS[access] | _SAFE
        parent = self._parent(node)
        if not look_at(parent, node.name).is_file:
            raise OSError(errno.EACCES, "no file")  # a device is not even opened
        return self._regular(os.open(node.name, flags, dir_fd=parent), truncate=truncate)

    def create(
        self, parent: Node, name: bytes, access: int, mode: int, *, exclusive: bool, truncate: bool
    ) -> tuple[int, bool]:
        """Make a file, or open the one that is there, unless `exclusive`. A descriptor, and whether it was made."""
        directory = self.tree.directory(parent)
        try:
            made = os.open(name, _ACCESS[access] | _SAFE | os.O_CREAT | os.O_EXCL, mode & FILE_MODE, dir_fd=directory)
        except FileExistsError:
            if exclusive:
                raise
            return self.open(self.tree.child(parent, name), access, truncate=truncate), False
        return made, True

    @staticmethod
    def reopen(descriptor: int, access: int) -> int:
        """Open once more what is open, whatever has become of its name."""
        if sys.platform != "linux":
            raise OSError(errno.ENOENT, "gone")
        return os.open(_through(descriptor), _ACCESS[access] | (_SAFE & ~os.O_NOFOLLOW))

    @staticmethod
    def _regular(descriptor: int, *, truncate: bool) -> int:
        try:
            if not look_fd(descriptor).is_file:
                raise OSError(errno.EACCES, "no file")
            if truncate:
                os.ftruncate(descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    # Entries.

    def make_directory(self, parent: Node, name: bytes, mode: int) -> None:
        os.mkdir(name, mode & DIRECTORY_MODE, dir_fd=self.tree.directory(parent))

    def make_link(self, parent: Node, name: bytes, target: bytes) -> None:
        os.symlink(target, name, dir_fd=self.tree.directory(parent))

    def make_special(self, parent: Node, name: bytes, mode: int) -> None:
        """A file, named pipe or socket; no devices, which are the host's."""
        directory = self.tree.directory(parent)
        kind = stat.S_IFMT(mode)
        if kind in (0, stat.S_IFREG):
            os.close(os.open(name, os.O_WRONLY | _SAFE | os.O_CREAT | os.O_EXCL, mode & FILE_MODE, dir_fd=directory))
        elif kind == stat.S_IFIFO:
            os.mkfifo(name, mode & FILE_MODE, dir_fd=directory)
        elif kind == stat.S_IFSOCK and sys.platform == "linux":
            os.mknod(name, stat.S_IFSOCK | (mode & FILE_MODE), dir_fd=directory)
        else:
            raise PermissionError(errno.EPERM, "no devices")

    def make_hard_link(self, node: Node, parent: Node, name: bytes) -> None:
        source, target = self._parent(node), self.tree.directory(parent)
        os.link(node.name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)

    def rename(self, parent: Node, name: bytes, to: Node, new: bytes) -> None:
        source, target = self.tree.directory(parent), self.tree.directory(to)
        os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
        self.tree.moved(parent, name, to, new)

    def unlink(self, parent: Node, name: bytes) -> None:
        directory = self.tree.directory(parent)
        os.unlink(name, dir_fd=directory)
        self.tree.removed(parent, name)

    def remove_directory(self, parent: Node, name: bytes) -> None:
        directory = self.tree.directory(parent)
        os.rmdir(name, dir_fd=directory)
        self.tree.removed(parent, name)

    # Attributes.

    def chmod(self, node: Node, mode: int, descriptor: int = -1) -> None:
        look = look_fd(descriptor) if descriptor >= 0 else self.look(node)
        mode &= DIRECTORY_MODE if look.is_dir else FILE_MODE
        if descriptor >= 0:
            os.fchmod(descriptor, mode)
        elif node.parent is None:
            os.fchmod(self.tree.directory(node), mode)
        elif stat.S_ISLNK(look.mode):
            raise OSError(errno.EOPNOTSUPP, "links have no mode")
        elif sys.platform != "linux":
            os.chmod(node.name, mode, dir_fd=self._parent(node), follow_symlinks=False)
        else:  # chmod(2) follows links; what is open is what was looked at
            with opened(
                os.open(node.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._parent(node))
            ) as handle:
                if stat.S_ISLNK(look_fd(handle).mode):
                    raise OSError(errno.EOPNOTSUPP, "links have no mode")
                Path(os.fsdecode(_through(handle))).chmod(mode)

    def truncate(self, node: Node, size: int, descriptor: int = -1) -> None:
        if descriptor >= 0:
            os.ftruncate(descriptor, size)
            return
        with opened(self.open(node, wire.O_WRONLY)) as writable:
            os.ftruncate(writable, size)

    def set_times(self, node: Node, atime_ns: int | None, mtime_ns: int | None, descriptor: int = -1) -> None:
        """Nanoseconds; None leaves a time as it is, -1 is now."""
        now = time.time_ns()
        if atime_ns is None or mtime_ns is None:
            look = look_fd(descriptor) if descriptor >= 0 else self.look(node)
            atime_ns = look.atime * 10**9 + look.atime_ns if atime_ns is None else atime_ns
            mtime_ns = look.mtime * 10**9 + look.mtime_ns if mtime_ns is None else mtime_ns
        times = (now if atime_ns < 0 else atime_ns, now if mtime_ns < 0 else mtime_ns)
        if descriptor >= 0:
            os.utime(descriptor, ns=times)
        elif node.parent is None:
            os.utime(self.tree.directory(node), ns=times)
        else:
            os.utime(node.name, ns=times, dir_fd=self._parent(node), follow_symlinks=False)

    # Extended attributes, which only Linux's Python has. The path that is followed is the kernel's own link to what is open.

    def get_xattr(self, node: Node, name: bytes) -> bytes:
        if sys.platform != "linux":
            raise OSError(errno.ENOTSUP, "no extended attributes")
        return os.getxattr(self._place(node), name, follow_symlinks=False)

    def list_xattrs(self, node: Node) -> list[bytes]:
        if sys.platform != "linux":
            return []
        try:
            found = os.listxattr(self._place(node), follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                return []
            raise
        return [name for name in map(os.fsencode, found) if name.startswith(XATTR_PREFIX)]

    def set_xattr(self, node: Node, name: bytes, value: bytes, flags: int = 0) -> None:
        if sys.platform != "linux":
            raise OSError(errno.ENOTSUP, "no extended attributes")
        os.setxattr(self._place(node), name, value, flags & 3, follow_symlinks=False)

    def remove_xattr(self, node: Node, name: bytes) -> None:
        if sys.platform != "linux":
            raise OSError(errno.ENOTSUP, "no extended attributes")
        os.removexattr(self._place(node), name, follow_symlinks=False)

    # Descriptors.

    def _parent(self, node: Node) -> int:
        if node.parent is None:
            raise OSError(errno.ENOENT if node.gone else errno.EACCES, "no entry of a directory")
        return self.tree.directory(node.parent)

    def _place(self, node: Node) -> bytes:
        if node.parent is None:
            return _through(self.tree.directory(node)) + b"/."
        return _through(self._parent(node)) + b"/" + node.name


def _through(descriptor: int) -> bytes:
    return b"/proc/self/fd/%d" % descriptor


def _kernels() -> frozenset[tuple[int, int]]:
    """The devices of file systems that are windows into the host's kernel, and into this process: never served."""
    found = set()
    for place in (b"/proc", b"/sys", b"/dev", b"/sys/kernel/security", b"/sys/kernel/debug"):
        with contextlib.suppress(OSError):
            look = look_at(-1, place)
            found.add((look.device, look.minor))
    look = look_at(-1, b"/")
    return frozenset(found - {(look.device, look.minor)})
