"""The calls of Windows' kernel that use names relative to an open directory (NtCreateFile and its like; "Windows Driver Kit", ntifs.h)."""

from __future__ import annotations

import _winapi
import ctypes
import errno
import struct
import sys
from ctypes import wintypes
from pathlib import Path

from cove.share.ninep import ntfs

assert sys.platform == "win32"

LIST, TRAVERSE, READ_DATA, WRITE_DATA, APPEND_DATA = 0x1, 0x20, 0x1, 0x2, 0x4
READ_ATTRIBUTES, WRITE_ATTRIBUTES, DELETE, SYNCHRONIZE = 0x80, 0x100, 0x10000, 0x100000
"""Access to a file or directory."""
OPEN, CREATE = 1, 2
"""What to do with what is there."""
DIRECTORY, NO_DIRECTORY = 0x1, 0x40
_ALERTLESS, _NOT_THROUGH_LINKS = 0x20, 0x200000
"""FILE_SYNCHRONOUS_IO_NONALERT, FILE_OPEN_REPARSE_POINT."""
_SHARED = 7
"""Others may read, write, and remove or rename it meanwhile."""
_ANY_CASE, _NO_REPARSE = 0x40, 0x1000
"""OBJ_CASE_INSENSITIVE, OBJ_DONT_REPARSE."""
READ_ONLY, NORMAL, IS_DIRECTORY, IS_REPARSE = 0x1, 0x80, 0x10, 0x400
"""Attributes."""

BASIC, STANDARD, RENAME, LINK, DISPOSITION, END, ALL, TAG, DISPOSITION_EX, RENAME_EX = (
    4,
    5,
    10,
    11,
    13,
    20,
    18,
    35,
    64,
    65,
)
"""Classes of information on a file."""
_ID_FULL_DIRECTORY = 38
_FULL_SIZE = 7
_LISTED = 1 << 16
_BACKUP_SEMANTICS = 0x02000000
"""A directory is opened."""
MAX_SIZE = (1 << 63) - 1
_GET_REPARSE, _SET_REPARSE, _SET_SPARSE = 0x900A8, 0x900A4, 0x900C4

NOT_THERE_YET = frozenset({0xC0000002, 0xC0000003, 0xC000000D, 0xC00000BB, 0xC0000010})
"""Statuses by which a file system, or an older Windows, says that it does not know what it is asked for."""
_INVALID_PARAMETER, _DELETE_PENDING = 0xC000000D, 0xC0000056
_NO_MORE_FILES, _NO_SUCH_FILE, _END_OF_FILE = 0x80000006, 0xC000000F, 0xC0000011
_ERRORS = {
    0xC0000002: errno.EOPNOTSUPP, 0xC0000003: errno.EOPNOTSUPP, 0xC000000D: errno.EINVAL, 0xC000000F: errno.ENOENT,
    0xC0000017: errno.ENOMEM, 0xC0000022: errno.EACCES, 0xC0000033: errno.EINVAL, 0xC0000034: errno.ENOENT,
    0xC0000035: errno.EEXIST, 0xC000003A: errno.ENOENT, 0xC0000043: errno.EBUSY, 0xC0000044: errno.EDQUOT,
    0xC0000054: errno.EBUSY, 0xC0000055: errno.EBUSY, 0xC0000056: errno.ENOENT, 0xC000007F: errno.ENOSPC,
    0xC000009A: errno.ENOMEM, 0xC00000A2: errno.EROFS, 0xC00000BA: errno.EISDIR, 0xC00000BB: errno.EOPNOTSUPP,
    0xC00000D4: errno.EXDEV, 0xC0000101: errno.ENOTEMPTY, 0xC0000103: errno.ENOTDIR, 0xC0000106: errno.ENAMETOOLONG,
    0xC000011F: errno.EMFILE, 0xC0000121: errno.EACCES, 0xC0000188: errno.EBUSY, 0xC0000265: errno.EMLINK,
    0xC0000275: errno.EINVAL, 0xC0000904: errno.EFBIG, 0xC0000024: errno.ENOTDIR, 0xC0000010: errno.EOPNOTSUPP,
    0xC0000123: errno.ENOENT, 0xC000050B: errno.ELOOP, 0xC0000279: errno.ELOOP, 0xC0000061: errno.EPERM,
    0xC00000B5: errno.ETIMEDOUT, 0xC0000243: errno.EBUSY, 0xC0000906: errno.EACCES,
}  # fmt: skip


_attributes = _ANY_CASE | _NO_REPARSE
"""Of names. Where the second is not known (an older Windows) it is done without from then on, as Rust's library does."""
_nt = ctypes.WinDLL("ntdll")
_NT_STATUS = 0xFFFFFFFF


class _Text(ctypes.Structure):
    """UNICODE_STRING"""

    _fields_ = [("length", wintypes.USHORT), ("room", wintypes.USHORT), ("buffer", ctypes.c_char_p)]


class _Object(ctypes.Structure):
    """OBJECT_ATTRIBUTES"""

    _fields_ = [
        ("length", wintypes.ULONG), ("root", ctypes.c_void_p), ("name", ctypes.POINTER(_Text)), ("attributes", wintypes.ULONG),
        ("rights", ctypes.c_void_p), ("quality", ctypes.c_void_p),
    ]  # fmt: skip


class _Done(ctypes.Structure):
    """IO_STATUS_BLOCK"""

    _fields_ = [("status", ctypes.c_void_p), ("information", ctypes.c_size_t)]


_create = _nt.NtCreateFile
_create.argtypes = (
    ctypes.POINTER(ctypes.c_void_p), wintypes.ULONG, ctypes.POINTER(_Object), ctypes.POINTER(_Done), ctypes.c_void_p,
    wintypes.ULONG, wintypes.ULONG, wintypes.ULONG, wintypes.ULONG, ctypes.c_void_p, wintypes.ULONG,
)  # fmt: skip
_query, _set, _query_volume = _nt.NtQueryInformationFile, _nt.NtSetInformationFile, _nt.NtQueryVolumeInformationFile
for _call in (_query, _set, _query_volume):
    _call.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Done), ctypes.c_void_p, wintypes.ULONG, ctypes.c_int)
_read, _write = _nt.NtReadFile, _nt.NtWriteFile
for _call in (_read, _write):
    _call.argtypes = (
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(_Done), ctypes.c_void_p,
        wintypes.ULONG, ctypes.POINTER(ctypes.c_longlong), ctypes.c_void_p,
    )  # fmt: skip
_list = _nt.NtQueryDirectoryFile
_list.argtypes = (
    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(_Done), ctypes.c_void_p, wintypes.ULONG,
    ctypes.c_int, wintypes.BOOLEAN, ctypes.POINTER(_Text), wintypes.BOOLEAN,
)  # fmt: skip
_control = _nt.NtFsControlFile
_control.argtypes = (
    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(_Done), wintypes.ULONG, ctypes.c_void_p,
    wintypes.ULONG, ctypes.c_void_p, wintypes.ULONG,
)  # fmt: skip
_flush = _nt.NtFlushBuffersFile
_flush.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Done))


def failure(status: int) -> OSError:
    """The error that a status of the kernel is."""
    return OSError(_ERRORS.get(status, errno.EIO), f"NTSTATUS {status:#x}")


def _check(status: int) -> None:
    if status & _NT_STATUS >= 0xC0000000:
        raise failure(status & _NT_STATUS)


def open_root(path: Path) -> int:
    """A directory by its path, which is followed as any."""
    place = str(path)
    if place[1:3] == ":\\":
        place = f"\\\\?\\{place}"  # longer than 260 letters, too
    return _winapi.CreateFile(
        place, LIST | TRAVERSE | READ_ATTRIBUTES | SYNCHRONIZE, _SHARED, 0, _winapi.OPEN_EXISTING, _BACKUP_SEMANTICS, 0
    )


def open_at(
    parent: int, name: str, access: int, *, what: int = OPEN, options: int = 0, attributes: int = NORMAL, shared: int = _SHARED
) -> int:  # fmt: skip
    """An entry of a directory, no link followed; for no name, what is open already once more."""
    raw = name.encode("utf-16-le", "surrogatepass")
    text = _Text(len(raw), len(raw), raw)
    handle, done = ctypes.c_void_p(), _Done()

    def create(how: int) -> int:
        place = _Object(ctypes.sizeof(_Object), parent, ctypes.pointer(text), how, None, None)
        status = _create(
            ctypes.byref(handle), access | READ_ATTRIBUTES | SYNCHRONIZE, ctypes.byref(place), ctypes.byref(done), None,
            attributes, shared, what, options | _ALERTLESS | _NOT_THROUGH_LINKS, None, 0,
        )  # fmt: skip
        return int(status) & _NT_STATUS

    global _attributes
    status = create(_attributes)
    if status == _INVALID_PARAMETER and _attributes != _ANY_CASE:
        status = create(_ANY_CASE)
        if status != _INVALID_PARAMETER:
            _attributes = _ANY_CASE
    if status == _DELETE_PENDING and what == CREATE:  # there is one, until nobody has it open any more
        raise OSError(errno.EBUSY, "being removed")
    _check(status)
    assert handle.value is not None
    return handle.value


close = _winapi.CloseHandle


def ask(handle: int, what: int, size: int) -> bytes:
    """Information on a file; of what has no end, its beginning."""
    buffer, done = ctypes.create_string_buffer(size), _Done()
    _check(_query(handle, ctypes.byref(done), buffer, size, what))
    return buffer.raw


def tell(handle: int, what: int, data: bytes) -> int:
    """Set information on a file. The status, 0 when it is set."""
    done = _Done()
    return int(_set(handle, ctypes.byref(done), data, len(data), what)) & _NT_STATUS


def told(handle: int, what: int, data: bytes) -> None:
    """As `tell`. Raises `OSError`."""
    _check(tell(handle, what, data))


def named(directory: int, name: str, flags: int) -> bytes:
    """FILE_RENAME_INFORMATION, FILE_LINK_INFORMATION: another name, in a directory."""
    raw = name.encode("utf-16-le", "surrogatepass")
    return struct.pack("<I4xQI", flags, directory, len(raw)) + raw + b"\0\0\0\0"


def space(handle: int) -> tuple[int, int, int, int]:
    """Of a file system: blocks, those that this user has left, those that there are, and the bytes of one."""
    buffer, done = ctypes.create_string_buffer(32), _Done()
    _check(_query_volume(handle, ctypes.byref(done), buffer, 32, _FULL_SIZE))
    blocks, left, free, sectors, size = struct.unpack("<qqqII", buffer.raw)
    return blocks, left, free, sectors * size


def entries(directory: int, only: str = "") -> list[tuple[str, int, int, int]]:
    """Name, number, attributes and tag of a reparse point of the entries; or of one that has this name, or the short one."""
    found: list[tuple[str, int, int, int]] = []
    raw = only.encode("utf-16-le", "surrogatepass")
    text = ctypes.pointer(_Text(len(raw), len(raw), raw)) if only else None
    buffer, done = ctypes.create_string_buffer(_LISTED), _Done()
    again = True
    while True:
        status = _list(
            directory, None, None, None, ctypes.byref(done), buffer, _LISTED, _ID_FULL_DIRECTORY, False, text, again
        )
        if status & _NT_STATUS in (_NO_MORE_FILES, _NO_SUCH_FILE):
            return found
        _check(status)
        again, place, data = False, 0, buffer.raw
        while True:
            (after,) = struct.unpack_from("<I", data, place)
            attributes, length, tag = struct.unpack_from("<III", data, place + 56)
            (number,) = struct.unpack_from("<Q", data, place + 72)
            name = data[place + 80 : place + 80 + length].decode("utf-16-le", "surrogatepass")
            found.append((name, number, attributes, tag if attributes & IS_REPARSE else 0))
            if not after:
                break
            place += after


def read(handle: int, count: int, offset: int) -> bytes:
    buffer, done = ctypes.create_string_buffer(count), _Done()
    status = _read(handle, None, None, None, ctypes.byref(done), buffer, count, _place(offset), None) & _NT_STATUS
    if status == _END_OF_FILE:
        return b""
    _check(status)
    return ctypes.string_at(buffer, done.information)


def write(handle: int, data: memoryview, offset: int) -> int:
    if not data:
        return 0
    buffer = (ctypes.c_char * len(data)).from_buffer(data) if not data.readonly else bytes(data)
    done = _Done()
    _check(_write(handle, None, None, None, ctypes.byref(done), buffer, len(data), _place(offset), None))
    return int(done.information)


def _place(offset: int) -> ctypes.c_longlong:
    if offset > MAX_SIZE:  # what is below 0 there means the end, or where the last one stopped
        raise OSError(errno.EINVAL, "beyond all files")
    return ctypes.c_longlong(offset)


def flush(handle: int) -> None:
    done = _Done()
    _check(_flush(handle, ctypes.byref(done)))


def reparse_data(handle: int) -> bytes:
    """What is kept in a reparse point."""
    buffer, done = ctypes.create_string_buffer(ntfs.MAX_DATA), _Done()
    _check(_control(handle, None, None, None, ctypes.byref(done), _GET_REPARSE, None, 0, buffer, ntfs.MAX_DATA))
    return ctypes.string_at(buffer, done.information)


def make_sparse(handle: int) -> None:
    """What nobody has written is not written by the system. Raises `OSError` where there are no such files."""
    done = _Done()
    _check(_control(handle, None, None, None, ctypes.byref(done), _SET_SPARSE, None, 0, None, 0))


def make_reparse(handle: int, data: bytes) -> None:
    done = _Done()
    _check(_control(handle, None, None, None, ctypes.byref(done), _SET_REPARSE, data, len(data), None, 0))
