"""Extended attributes: only those of users, and not Cove's own.

The guest reads one by a fid of its own, and writes one to a fid whose end sets it (Txattrwalk, Txattrcreate).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from cove.share.ninep import wire
from cove.share.ninep.folder import XATTR_PREFIX, Folder
from cove.share.ninep.owners import HIDDEN
from cove.share.ninep.tree import Node

MAX_SIZE = 1 << 16
"""Of a value, as Linux has it (XATTR_SIZE_MAX)."""
_REPLACE = 2


@dataclass(slots=True)
class Xattr:
    """One that is read, or that is being written: `name` is empty for the former, `size` what it has or was announced to have."""

    value: bytearray
    name: bytes = b""
    size: int = 0
    flags: int = 0

    def write(self, offset: int, data: memoryview) -> int:
        if not self.name:
            raise OSError(errno.EBADF, "not open for writing")
        if offset != len(self.value) or offset + len(data) > self.size:
            raise OSError(errno.ENOSPC, "not what was announced")
        self.value += data
        return len(data)


def _is_ours_to_give(name: bytes) -> bool:
    return (
        name.startswith(XATTR_PREFIX)
        and not name.startswith(HIDDEN)
        and b"\0" not in name
        and len(name) <= wire.MAX_NAME
    )


def found(folder: Folder, node: Node, name: bytes) -> Xattr:
    """An attribute's value; all attributes' names for no name. Raises `OSError`."""
    if not name:
        shown = [each for each in folder.list_xattrs(node) if _is_ours_to_give(each)]
        return _read(b"".join(each + b"\0" for each in shown))
    if not _is_ours_to_give(name):  # Linux asks for security.capability at every write
        raise OSError(errno.ENODATA if name.startswith(XATTR_PREFIX) else errno.EOPNOTSUPP, "not here")
    return _read(folder.get_xattr(node, name))


def _read(value: bytes) -> Xattr:
    return Xattr(bytearray(value), size=len(value))


def announced(name: bytes, size: int, flags: int) -> Xattr:
    """One that is about to be written. Raises `OSError`."""
    if not _is_ours_to_give(name):
        raise OSError(errno.EOPNOTSUPP, "not here")
    if size > MAX_SIZE:
        raise OSError(errno.E2BIG, "too large")
    return Xattr(bytearray(), name, size, flags)


def keep(folder: Folder, node: Node, xattr: Xattr) -> None:
    """Set what has been written. Raises `OSError`."""
    if len(xattr.value) != xattr.size:
        raise OSError(errno.EINVAL, "not what was announced")
    if not xattr.size and xattr.flags & _REPLACE:  # what Linux's client makes of removexattr(2)
        folder.remove_xattr(node, xattr.name)
    else:
        folder.set_xattr(node, xattr.name, bytes(xattr.value), xattr.flags)
