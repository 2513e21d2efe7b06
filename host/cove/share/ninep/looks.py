"""What the host knows about a file: stat(2), and on Linux statx(2), which knows the time of birth too."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

_NOFOLLOW = 0x100
_EMPTY_PATH = 0x1000
_BASIC_AND_BTIME = 0xFFF


class Look(NamedTuple):
    """Times are seconds and nanoseconds; `blocks` are of 512 bytes; `device` and `ino` tell files apart."""

    blksize: int
    nlink: int
    mode: int
    ino: int
    size: int
    blocks: int
    atime: int
    atime_ns: int
    btime: int
    btime_ns: int
    ctime: int
    ctime_ns: int
    mtime: int
    mtime_ns: int
    device: int
    minor: int

    @property
    def is_dir(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFDIR

    @property
    def is_file(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFREG

    def same_file(self, other: Look) -> bool:
        return self.ino == other.ino and self.device == other.device and self.minor == other.minor


class Space(NamedTuple):
    """What there is of a file system, as statvfs(3) says it: blocks of `size` bytes."""

    size: int
    blocks: int
    free: int
    available: int
    files: int
    files_free: int
    number: int
    name_max: int


# struct statx of linux/stat.h: what is left out is padding here.
_STATX = struct.Struct("<4xI8xI8xHxxQQQ8xqI4xqI4xqI4xqI4x8xII")
_SIZE = 256


def _statx_works() -> bool:
    try:
        return _statx_at(-1, b"/").is_dir
    except OSError:  # an old kernel, or a sandbox that does not know it
        return False


def _statx_at(fd: int, name: bytes) -> Look:
    buffer = ctypes.create_string_buffer(_SIZE)
    if _call(fd, name, _NOFOLLOW | (0 if name else _EMPTY_PATH), _BASIC_AND_BTIME, buffer):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return Look._make(_STATX.unpack_from(buffer))


def _from_stat(found: os.stat_result) -> Look:
    birth = int(getattr(found, "st_birthtime_ns", 0) or getattr(found, "st_birthtime", 0) * 10**9)
    return Look(
        getattr(found, "st_blksize", 4096), found.st_nlink, found.st_mode, found.st_ino, found.st_size,
        getattr(found, "st_blocks", (found.st_size + 511) // 512),
        *divmod(found.st_atime_ns, 10**9), *divmod(birth, 10**9), *divmod(found.st_ctime_ns, 10**9), *divmod(found.st_mtime_ns, 10**9),
        found.st_dev, 0,
    )  # fmt: skip


def _stat_at(fd: int, name: bytes) -> Look:
    return _from_stat(os.stat(name, dir_fd=fd, follow_symlinks=False))


def _stat_fd(fd: int) -> Look:
    return _from_stat(os.fstat(fd))


def _statx_fd(fd: int) -> Look:
    return _statx_at(fd, b"")


_call: Any = getattr(ctypes.CDLL(None, use_errno=True), "statx", None) if sys.platform == "linux" else None
if _call is not None:
    _call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p]

look_at: Callable[[int, bytes], Look] = _statx_at
look_fd: Callable[[int], Look] = _statx_fd
if _call is None or not _statx_works():
    look_at, look_fd = _stat_at, _stat_fd
"""`look_at(fd, name)`: an entry of a directory, not what a link there leads to; `look_fd(fd)`: what is open. Raise `OSError`."""
