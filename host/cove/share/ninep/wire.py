"""9P2000.L as bytes: numbers of messages, their fields, and errors as Linux numbers them.

The messages are those of Linux's ``include/net/9p/9p.h`` and of diod's ``protocol.md``; all numbers are little-endian.
"""

from __future__ import annotations

import errno
import struct
import sys
from enum import IntEnum

MIN_MSIZE = 4096
MAX_MSIZE = 1 << 20
"""What Linux's client takes at most over a stream (``MAX_SOCK_BUF``)."""
VERSION = b"9P2000.L"
NO_TAG = 0xFFFF
NO_FID = 0xFFFFFFFF
MAX_WALK = 16
MAX_NAME = 255
MAX_TARGET = 4095
"""Of a symbolic link, PATH_MAX without its end."""

HEADER = struct.Struct("<IBH")
"""Size of the whole message, its type, its tag."""
READ_OVERHEAD = 11
"""Of an Rread: header and count. Linux's client counts on 24 (``P9_IOHDRSZ``), of which Twrite has 23."""


class T(IntEnum):
    """Requests; the answer to each has the number after it."""

    STATFS = 8
    LOPEN = 12
    LCREATE = 14
    SYMLINK = 16
    MKNOD = 18
    RENAME = 20
    READLINK = 22
    GETATTR = 24
    SETATTR = 26
    XATTRWALK = 30
    XATTRCREATE = 32
    READDIR = 40
    FSYNC = 50
    LOCK = 52
    GETLOCK = 54
    LINK = 70
    MKDIR = 72
    RENAMEAT = 74
    UNLINKAT = 76
    VERSION = 100
    AUTH = 102
    ATTACH = 104
    FLUSH = 108
    WALK = 110
    READ = 116
    WRITE = 118
    CLUNK = 120
    REMOVE = 122


RLERROR = 7
KNOWN = frozenset(int(kind) for kind in T)
CHANGES = frozenset(
    {
        T.LCREATE, T.SYMLINK, T.MKNOD, T.RENAME, T.SETATTR, T.XATTRCREATE, T.LINK, T.MKDIR, T.RENAMEAT, T.UNLINKAT, T.WRITE,
        T.REMOVE,
    }
)  # fmt: skip
"""Requests that change something, whatever their fields are."""

QTDIR, QTSYMLINK, QTFILE = 0x80, 0x02, 0
QID = struct.Struct("<BIQ")
"""Type, version and path: what a file is, for the guest's kernel."""

AT_REMOVEDIR = 0x200
GETATTR_BASIC = 0x7FF
GETATTR_BTIME = 0x800
GETATTR_GEN = 0x1000
GETATTR = struct.Struct("<QBIQIIIQQQQQQQQQQQQQQQ")
"""The answer: valid, qid, mode, uid, gid, nlink, rdev, size, blksize, blocks, four times of two fields, gen, data_version."""

SETATTR = struct.Struct("<IIIIQQQQQ")
"""After the fid: valid, mode, uid, gid, size, atime (s, ns), mtime (s, ns)."""
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME, SET_CTIME = 1, 2, 4, 8, 16, 32, 64
SET_ATIME_GIVEN, SET_MTIME_GIVEN = 128, 256

STATFS = struct.Struct("<IIQQQQQQI")
V9FS_MAGIC = 0x01021997

# open(2)'s flags as Linux numbers them on most processors (P9_DOTL_*).
O_ACCMODE, O_RDONLY, O_WRONLY, O_RDWR = 3, 0, 1, 2
O_CREAT, O_EXCL, O_TRUNC, O_DIRECTORY = 0o100, 0o200, 0o1000, 0o200000

# Types of directory entries, readdir(3).
DT_UNKNOWN, DT_FIFO, DT_DIR, DT_REG, DT_LNK, DT_SOCK = 0, 1, 4, 8, 10, 12

U16 = struct.Struct("<H")
U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")

LINUX_ERRORS = {
    "EPERM": 1, "ENOENT": 2, "EINTR": 4, "EIO": 5, "ENXIO": 6, "E2BIG": 7, "EBADF": 9, "EAGAIN": 11, "ENOMEM": 12, "EACCES": 13,
    "EFAULT": 14, "EBUSY": 16, "EEXIST": 17, "EXDEV": 18, "ENODEV": 19, "ENOTDIR": 20, "EISDIR": 21, "EINVAL": 22,
    "ENFILE": 23, "EMFILE": 24, "ETXTBSY": 26, "EFBIG": 27, "ENOSPC": 28, "ESPIPE": 29, "EROFS": 30, "EMLINK": 31,
    "ENAMETOOLONG": 36, "ENOLCK": 37, "ENOTEMPTY": 39, "ELOOP": 40, "ENODATA": 61, "ENOATTR": 61, "EPROTO": 71, "EOVERFLOW": 75,
    "EILSEQ": 84, "EOPNOTSUPP": 95, "ENOTSUP": 95, "ETIMEDOUT": 110, "ESTALE": 116, "EDQUOT": 122, "ECANCELED": 125,
}  # fmt: skip
"""Errors of file systems, which have other numbers on other systems."""
EIO = 5


def linux_errno(number: int | None) -> int:
    """The number that Linux has for one of this system's errors; EIO for what Linux does not know."""
    if number is None or number <= 0:
        return EIO
    if sys.platform == "linux":
        return number
    return LINUX_ERRORS.get(errno.errorcode.get(number, "").removeprefix("WSA"), EIO)  # as Windows has some of them


class MalformedError(Exception):
    """A message that says less, or more, than its type has."""


def string(body: memoryview, offset: int) -> tuple[bytes, int]:
    """A string and where it ends. Raises `MalformedError`."""
    if offset + 2 > len(body):
        raise MalformedError
    end = offset + 2 + (body[offset] | body[offset + 1] << 8)
    if end > len(body):
        raise MalformedError
    return bytes(body[offset + 2 : end]), end


def name(body: memoryview, offset: int) -> tuple[bytes, int]:
    """A name of an entry of a directory and where it ends. Raises `MalformedError`, and `OSError` for what is no name."""
    found, end = string(body, offset)
    if not found or found == b"." or found == b".." or b"/" in found or b"\0" in found:
        raise OSError(errno.EINVAL, "no name")
    if len(found) > MAX_NAME:
        raise OSError(errno.ENAMETOOLONG, "too long a name")
    return found, end
