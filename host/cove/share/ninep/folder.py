"""What is done to the host's files, at the nodes of a `Tree`.

Links are never followed. All methods raise `OSError` with the host's numbers. What is made belongs to the user who runs this.
"""

from __future__ import annotations

import errno
import stat
import time

from cove.share.ninep import wire
from cove.share.ninep.host import host
from cove.share.ninep.looks import Look, Space
from cove.share.ninep.tree import Node, Tree

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
        self._forbidden = host.forbidden()

    def close(self) -> None:
        self.tree.close()

    # Looking.

    def look(self, node: Node) -> Look:
        """What is at a node now."""
        if node.parent is None:
            return host.look_fd(self.tree.directory(node))
        found = host.look_at(self.tree.directory(node.parent), node.name)
        if (found.device, found.minor) in self._forbidden:
            raise PermissionError(errno.EACCES, "a file system of the kernel")
        return found

    def look_below(self, parent: Node, name: bytes) -> Look:
        """What an entry of a directory is."""
        found = host.look_at(self.tree.directory(parent), name)
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
        return host.scan(self.tree.directory(node))

    def link_target(self, node: Node) -> bytes:
        return host.read_link(self._parent(node), node.name)

    def space(self) -> Space:
        return host.space(self.tree.root.descriptor)

    # Files.

    def open(self, node: Node, access: int, *, truncate: bool = False) -> int:
        """A descriptor of a regular file; `access` is `wire.O_RDONLY` and so on."""
        return host.open_file(self._parent(node), node.name, access, truncate=truncate)

    def create(
        self, parent: Node, name: bytes, access: int, mode: int, *, exclusive: bool, truncate: bool
    ) -> tuple[int, bool]:
        """Make a file, or open the one that is there, unless `exclusive`. A descriptor, and whether it was made."""
        directory = self.tree.directory(parent)
        try:
            return host.create_file(directory, name, access, mode & FILE_MODE), True
        except FileExistsError:
            if exclusive:
                raise
            return self.open(self.tree.child(parent, name), access, truncate=truncate), False

    # Entries.

    def make_directory(self, parent: Node, name: bytes, mode: int) -> None:
        host.make_directory(self.tree.directory(parent), name, mode & DIRECTORY_MODE)

    def make_link(self, parent: Node, name: bytes, target: bytes) -> None:
        host.make_link(self.tree.directory(parent), name, target)

    def make_special(self, parent: Node, name: bytes, mode: int) -> None:
        """A file, named pipe or socket; no devices, which are the host's."""
        directory = self.tree.directory(parent)
        kind = stat.S_IFMT(mode)
        if kind in (0, stat.S_IFREG):
            host.close(host.create_file(directory, name, wire.O_WRONLY, mode & FILE_MODE))
        else:
            host.make_special(directory, name, kind, mode & FILE_MODE)

    def make_hard_link(self, node: Node, parent: Node, name: bytes) -> None:
        source, target = self._parent(node), self.tree.directory(parent)
        host.make_hard_link(source, node.name, target, name)

    def rename(self, parent: Node, name: bytes, to: Node, new: bytes) -> None:
        if host.HOLDS_BACK and self.look_below(parent, name).is_dir:
            self.tree.let_go()  # of those in it, and of an empty one that makes room
        source, target = self.tree.directory(parent), self.tree.directory(to)
        host.rename(source, name, target, new)
        self.tree.moved(parent, name, to, new)

    def unlink(self, parent: Node, name: bytes) -> None:
        host.unlink(self.tree.directory(parent), name)
        self.tree.removed(parent, name)

    def remove_directory(self, parent: Node, name: bytes) -> None:
        if host.HOLDS_BACK:
            self.tree.let_go()  # its name is not free as long as it is held
        host.remove_directory(self.tree.directory(parent), name)
        self.tree.removed(parent, name)

    # Attributes.

    def chmod(self, node: Node, mode: int, descriptor: int = -1) -> None:
        look = host.look_fd(descriptor) if descriptor >= 0 else self.look(node)
        mode &= DIRECTORY_MODE if look.is_dir else FILE_MODE
        if descriptor >= 0:
            host.chmod(descriptor, mode)
        elif node.parent is None:
            host.chmod(self.tree.directory(node), mode)
        else:
            host.chmod_at(self._parent(node), node.name, mode)

    def truncate(self, node: Node, size: int, descriptor: int = -1) -> None:
        if descriptor >= 0:
            host.truncate(descriptor, size)
            return
        with host.opened(self.open(node, wire.O_WRONLY)) as writable:
            host.truncate(writable, size)

    def set_times(self, node: Node, atime_ns: int | None, mtime_ns: int | None, descriptor: int = -1) -> None:
        """Nanoseconds; None leaves a time as it is, -1 is now."""
        now = time.time_ns()
        if atime_ns is None or mtime_ns is None:
            look = host.look_fd(descriptor) if descriptor >= 0 else self.look(node)
            atime_ns = look.atime * 10**9 + look.atime_ns if atime_ns is None else atime_ns
            mtime_ns = look.mtime * 10**9 + look.mtime_ns if mtime_ns is None else mtime_ns
        times = (now if atime_ns < 0 else atime_ns, now if mtime_ns < 0 else mtime_ns)
        if descriptor >= 0:
            host.set_times(descriptor, *times)
        elif node.parent is None:
            host.set_times(self.tree.directory(node), *times)
        else:
            host.set_times_at(self._parent(node), node.name, *times)

    # Extended attributes.

    def get_xattr(self, node: Node, name: bytes) -> bytes:
        return host.get_xattr(*self._place(node), name)

    def list_xattrs(self, node: Node) -> list[bytes]:
        return [name for name in host.list_xattrs(*self._place(node)) if name.startswith(XATTR_PREFIX)]

    def set_xattr(self, node: Node, name: bytes, value: bytes, flags: int = 0) -> None:
        host.set_xattr(*self._place(node), name, value, flags)

    def remove_xattr(self, node: Node, name: bytes) -> None:
        host.remove_xattr(*self._place(node), name)

    # Descriptors.

    def _parent(self, node: Node) -> int:
        if node.parent is None:
            raise OSError(errno.ENOENT if node.gone else errno.EACCES, "no entry of a directory")
        return self.tree.directory(node.parent)

    def _place(self, node: Node) -> tuple[int, bytes]:
        """A directory, and an entry of it; no name for the directory itself."""
        return (self.tree.directory(node), b"") if node.parent is None else (self._parent(node), node.name)
