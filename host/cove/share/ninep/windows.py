"""`cove.share.ninep.host` for Windows: descriptors are handles, and names are used relative to them (`nt`).

Windows has no modes: all may do all with a file, but write to one that has the attribute *read-only*. Links, pipes and sockets are
made as WSL makes them, which takes no right that users lack; those that Windows itself has are seen as links, and never followed.
Names that would mean something else to Windows than a file of that name (`ntfs.text`) do not exist.
"""

from __future__ import annotations

import errno
import select
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cove.share.ninep import nt, ntfs, wire
from cove.share.ninep.looks import Look, Space

assert sys.platform == "win32"

HOLDS_BACK = True
"""Windows renames no directory in which something is open."""
TIMES_AT_CLOSE = True
_DIRECTORY_MODE, _FILE_MODE, _READ_ONLY_MODE = stat.S_IFDIR | 0o777, stat.S_IFREG | 0o777, stat.S_IFREG | 0o555
_WRITABLE = 0o222
_ACCESS = {
    wire.O_RDONLY: nt.READ_DATA,
    wire.O_WRONLY: nt.WRITE_DATA | nt.APPEND_DATA | nt.WRITE_ATTRIBUTES,
    wire.O_RDWR: nt.READ_DATA | nt.WRITE_DATA | nt.APPEND_DATA | nt.WRITE_ATTRIBUTES,
}
_ALL = struct.Struct("<qqqqI4xqqIBB2xQ")
"""FILE_ALL_INFORMATION up to the file's number."""
_ALL_SIZE = 1024
_BASIC = struct.Struct("<qqqqI4x")
_STANDARD = struct.Struct("<8xq")
"""Of FILE_STANDARD_INFORMATION the size."""
_EPOCH_S = 11644473600
"""From 1601 to 1970."""
_UNITS = 10**7
"""Of 100 ns, in a second."""
_BLOCK = 4096
_REPLACE, _DELETE, _POSIX = 1, 1, 2
_DELETE_READ_ONLY, _REPLACE_READ_ONLY = 0x10, 0x40
_MANY_FILES = 1 << 14
_FAR = 1 << 20
"""Beyond a file's end, what is between is not to be filled with zeros."""
_KEEP, _AS_WRITTEN = 0, -2
"""Of times."""

open_root = nt.open_root
read = nt.read
_timed: set[int] = set()
"""Handles by which a time was set: what is written by one sets it no more, until it is asked to."""


def close(descriptor: int) -> None:
    _timed.discard(descriptor)
    nt.close(descriptor)


# What is there.


def _known(directory: int, name: bytes) -> str:
    """The name of something that may be there. Raises `FileNotFoundError` for what cannot be."""
    try:
        found = ntfs.text(name)
    except ValueError:
        raise FileNotFoundError(errno.ENOENT, "no name of Windows") from None
    if _is_second(directory, found):
        raise FileNotFoundError(errno.ENOENT, "a short name")
    return found


def _new(name: bytes) -> str:
    """The name of something that is to be made. Raises `OSError` (EINVAL) for what Windows cannot have."""
    try:
        return ntfs.text(name)
    except ValueError:
        raise OSError(errno.EINVAL, "no name of Windows") from None


def _is_second(directory: int, name: str) -> bool:
    """Whether it is only the second name, that Windows gave to a file."""
    if not ntfs.may_be_short(name):
        return False
    with opened(nt.open_at(directory, "", nt.LIST)) as handle:
        found = [each.casefold() for each, *_ in nt.entries(handle, name)]
    return bool(found) and name.casefold() not in found


@contextmanager
def opened(handle: int) -> Iterator[int]:
    """It is closed at the end of the block."""
    try:
        yield handle
    finally:
        close(handle)


def _attributes(handle: int) -> tuple[int, int]:
    """A file's, and its tag when it is a reparse point, else 0."""
    attributes, tag = struct.unpack("<II", nt.ask(handle, nt.TAG, 8))
    return attributes, tag if attributes & nt.IS_REPARSE else 0


def _kind(attributes: int, tag: int) -> int:
    directory = bool(attributes & nt.IS_DIRECTORY)
    return ntfs.kind(tag, directory=directory) if tag else stat.S_IFDIR if directory else stat.S_IFREG


def look_fd(descriptor: int) -> Look:
    born, used, written, changed, attributes, room, size, links, _, _, number = _ALL.unpack_from(
        nt.ask(descriptor, nt.ALL, _ALL_SIZE)
    )
    mode = (
        _DIRECTORY_MODE
        if attributes & nt.IS_DIRECTORY
        else _READ_ONLY_MODE
        if attributes & nt.READ_ONLY
        else _FILE_MODE
    )
    if attributes & nt.IS_REPARSE:
        tag = _attributes(descriptor)[1]
        kind = _kind(attributes, tag)
        if kind != stat.S_IFMT(mode):
            mode, size, room = kind | 0o777, 0, 0
        if kind == stat.S_IFLNK:
            with suppress(OSError):
                size = len(ntfs.target(nt.reparse_data(descriptor)))
    return Look(
        _BLOCK, links, mode, number, size, room >> 9, *_time(used), *_time(born), *_time(changed), *_time(written), 0, 0
    )


def _time(units: int) -> tuple[int, int]:
    seconds, rest = divmod(units, _UNITS)
    return seconds - _EPOCH_S, rest * 100


def look_at(parent: int, name: bytes) -> Look:
    with opened(nt.open_at(parent, _known(parent, name), 0)) as handle:
        return look_fd(handle)


def scan(directory: int) -> list[tuple[bytes, int, int]]:
    """Name, number and type (`wire.DT_*`) of the entries, in the system's order."""
    found = []
    for name, number, attributes, tag in nt.entries(directory):
        raw = ntfs.shown(name)
        if raw is not None and raw not in (b".", b".."):
            found.append((raw, number, _kind(attributes, tag) >> 12))
    return found


def space(directory: int) -> Space:
    blocks, left, free, size = nt.space(directory)
    return Space(size, blocks, free, left, 0, 0, 0, wire.MAX_NAME)


def forbidden() -> frozenset[tuple[int, int]]:
    """No other file system is ever come to: it would be by a link."""
    return frozenset()


# Directories.


def open_directory(parent: int, name: bytes) -> int:
    known = _known(parent, name)
    try:
        handle = nt.open_at(parent, known, nt.LIST | nt.TRAVERSE, options=nt.DIRECTORY)
    except OSError as error:
        if error.errno != errno.EACCES:
            raise
        handle = nt.open_at(parent, known, nt.TRAVERSE, options=nt.DIRECTORY)  # may be passed through, not read
    try:
        if _kind(*_attributes(handle)) != stat.S_IFDIR:
            raise OSError(errno.ELOOP, "a link")
    except BaseException:
        close(handle)
        raise
    return handle


def sync_directory(directory: int) -> None:
    """What is done to a directory is in the file system's journal."""


# Files.


def open_file(directory: int, name: bytes, access: int, *, truncate: bool = False) -> int:
    """A descriptor of a regular file; `access` is `wire.O_RDONLY` and so on."""
    handle = nt.open_at(directory, _known(directory, name), _ACCESS[access], options=nt.NO_DIRECTORY)
    try:
        attributes, tag = _attributes(handle)
        kind = _kind(attributes, tag)
        if kind == stat.S_IFLNK:
            raise OSError(errno.ELOOP, "a link")
        if kind != stat.S_IFREG or (tag and not ntfs.is_read_as_it_is(tag)):
            raise OSError(errno.EACCES, "no file")
        if truncate:
            _truncate(handle, 0)
    except BaseException:
        close(handle)
        raise
    return handle


def create_file(directory: int, name: bytes, access: int, mode: int) -> int:
    """One that is not there yet."""
    return nt.open_at(
        directory, _new(name), _ACCESS[access], what=nt.CREATE, options=nt.NO_DIRECTORY,
        attributes=nt.NORMAL if mode & _WRITABLE else nt.READ_ONLY,
    )  # fmt: skip


def reopen(descriptor: int, access: int) -> int:
    """Open once more what is open; not when it has no name any more."""
    return nt.open_at(descriptor, "", _ACCESS[access], options=nt.NO_DIRECTORY)


def write(descriptor: int, data: memoryview, offset: int) -> int:
    _write_times_again(descriptor)
    if fills(descriptor, offset):
        _make_sparse(descriptor)
    return nt.write(descriptor, data, offset)


def fills(descriptor: int, offset: int) -> bool:
    """Whether a write there may take long, for the system writes all that is before it."""
    return offset > _FAR and offset - _STANDARD.unpack_from(nt.ask(descriptor, nt.STANDARD, 24))[0] > _FAR


def _make_sparse(handle: int) -> None:
    with suppress(OSError):  # there the system fills it, in its time
        nt.make_sparse(handle)


def _write_times_again(handle: int) -> None:
    if handle in _timed:
        _timed.discard(handle)
        nt.tell(handle, nt.BASIC, _BASIC.pack(_KEEP, _KEEP, _AS_WRITTEN, _KEEP, 0))  # not known by old ones


def truncate(descriptor: int, size: int) -> None:
    _truncate(descriptor, size)


def _truncate(handle: int, size: int) -> None:
    if size > nt.MAX_SIZE:
        raise OSError(errno.EINVAL, "beyond all files")
    _write_times_again(handle)
    if fills(handle, size):
        _make_sparse(handle)
    nt.told(handle, nt.END, struct.pack("<q", size))


def sync(descriptor: int, *, only_data: bool) -> None:
    try:
        nt.flush(descriptor)
    except OSError as error:
        if error.errno != errno.EACCES:  # open for reading alone: nothing of it waits
            raise


# Entries.


def make_directory(parent: int, name: bytes, mode: int) -> None:
    close(nt.open_at(parent, _new(name), nt.LIST, what=nt.CREATE, options=nt.DIRECTORY))


def make_link(parent: int, name: bytes, target: bytes) -> None:
    _make_reparse(parent, name, ntfs.link_data(target))


def make_special(parent: int, name: bytes, kind: int, mode: int) -> None:
    """A named pipe or socket, by `kind` (`stat.S_IFMT`); no devices, which are the host's."""
    _make_reparse(parent, name, ntfs.special_data(kind))


def _make_reparse(parent: int, name: bytes, data: bytes) -> None:
    """Nobody else can open it before it is what it is to be."""
    access = nt.WRITE_DATA | nt.WRITE_ATTRIBUTES | nt.DELETE
    with opened(nt.open_at(parent, _new(name), access, what=nt.CREATE, options=nt.NO_DIRECTORY, shared=0)) as handle:
        try:
            nt.make_reparse(handle, data)
        except OSError as error:
            _remove(handle)
            if error.errno == errno.EOPNOTSUPP:  # as Linux says it of a file system without links
                raise PermissionError(errno.EPERM, "no links here") from error
            raise


def read_link(parent: int, name: bytes) -> bytes:
    with opened(nt.open_at(parent, _known(parent, name), 0)) as handle:
        return ntfs.target(nt.reparse_data(handle))


def make_hard_link(parent: int, name: bytes, to: int, new: bytes) -> None:
    given = _new(new)
    with opened(nt.open_at(parent, _known(parent, name), nt.WRITE_ATTRIBUTES, options=nt.NO_DIRECTORY)) as handle:
        nt.told(handle, nt.LINK, nt.named(to, given, 0))


def rename(parent: int, name: bytes, to: int, new: bytes) -> None:
    given = _new(new)
    if _is_second(to, given):  # in whose place nothing is put: it is another file
        raise FileExistsError(errno.EEXIST, "a short name")
    with opened(nt.open_at(parent, _known(parent, name), nt.DELETE)) as handle:
        flags = _REPLACE | _POSIX | _REPLACE_READ_ONLY
        status = nt.tell(handle, nt.RENAME_EX, nt.named(to, given, flags))
        if status in nt.NOT_THERE_YET:
            status = nt.tell(handle, nt.RENAME, nt.named(to, given, _REPLACE))
        if status and look_fd(handle).is_dir:
            # An empty directory makes room for another, as it does on Linux.
            with suppress(OSError):
                remove_directory(to, new)
                status = nt.tell(handle, nt.RENAME, nt.named(to, given, 0))
                if status:
                    make_directory(to, new, _DIRECTORY_MODE)
        if status:
            raise nt.failure(status)


def unlink(parent: int, name: bytes) -> None:
    with opened(_open_to_remove(parent, name)) as handle:
        if look_fd(handle).is_dir:
            raise IsADirectoryError(errno.EISDIR, "a directory")
        _remove(handle)


def remove_directory(parent: int, name: bytes) -> None:
    with opened(_open_to_remove(parent, name, nt.DIRECTORY)) as handle:
        if not look_fd(handle).is_dir:
            raise NotADirectoryError(errno.ENOTDIR, "a link")
        _remove(handle)


def _open_to_remove(parent: int, name: bytes, options: int = 0) -> int:
    known = _known(parent, name)
    try:
        return nt.open_at(parent, known, nt.DELETE | nt.WRITE_ATTRIBUTES, options=options)
    except PermissionError:  # who may change the directory may remove what they may not change
        return nt.open_at(parent, known, nt.DELETE, options=options)


def _remove(handle: int) -> None:
    """Its name is free at once; on an older Windows when nobody has it open any more."""
    status = nt.tell(handle, nt.DISPOSITION_EX, struct.pack("<I", _DELETE | _POSIX | _DELETE_READ_ONLY))
    if status in nt.NOT_THERE_YET:
        with suppress(OSError):
            _set_read_only(handle, read_only=False)
        nt.told(handle, nt.DISPOSITION, b"\1")
    elif status:
        raise nt.failure(status)


# Attributes.


def chmod(descriptor: int, mode: int) -> None:
    try:
        _chmod(descriptor, mode)  # what has no name any more is not opened again
    except PermissionError:  # open for reading
        with opened(nt.open_at(descriptor, "", nt.WRITE_ATTRIBUTES)) as handle:
            _chmod(handle, mode)


def chmod_at(parent: int, name: bytes, mode: int) -> None:
    with opened(nt.open_at(parent, _known(parent, name), nt.WRITE_ATTRIBUTES)) as handle:
        _chmod(handle, mode)


def _chmod(handle: int, mode: int) -> None:
    kind = _kind(*_attributes(handle))
    if kind == stat.S_IFLNK:
        raise OSError(errno.EOPNOTSUPP, "links have no mode")
    if kind == stat.S_IFREG:  # of a directory the attribute says something else
        _set_read_only(handle, read_only=not mode & _WRITABLE)


def _set_read_only(handle: int, *, read_only: bool) -> None:
    attributes, _ = _attributes(handle)
    wanted = attributes | nt.READ_ONLY if read_only else attributes & ~nt.READ_ONLY
    if wanted != attributes:
        nt.told(handle, nt.BASIC, _BASIC.pack(_KEEP, _KEEP, _KEEP, _KEEP, wanted or nt.NORMAL))


def set_times(descriptor: int, atime_ns: int, mtime_ns: int) -> None:
    try:
        # By that handle, whose close would set the time of what was written by it.
        _set_times(descriptor, atime_ns, mtime_ns)
        _timed.add(descriptor)
    except PermissionError:  # open for reading
        with opened(nt.open_at(descriptor, "", nt.WRITE_ATTRIBUTES)) as handle:
            _set_times(handle, atime_ns, mtime_ns)


def set_times_at(parent: int, name: bytes, atime_ns: int, mtime_ns: int) -> None:
    with opened(nt.open_at(parent, _known(parent, name), nt.WRITE_ATTRIBUTES)) as handle:
        _set_times(handle, atime_ns, mtime_ns)


def _set_times(handle: int, atime_ns: int, mtime_ns: int) -> None:
    nt.told(handle, nt.BASIC, _BASIC.pack(_KEEP, _units(atime_ns), _units(mtime_ns), _KEEP, 0))


def _units(ns: int) -> int:
    """At least 1: 0 and what is below mean something else."""
    return min(max(1, ns // 100 + _EPOCH_S * _UNITS), nt.MAX_SIZE)


# Extended attributes: none.


def get_xattr(parent: int, name: bytes, attribute: bytes) -> bytes:
    raise OSError(errno.ENOTSUP, "no extended attributes")


def list_xattrs(parent: int, name: bytes) -> list[bytes]:
    return []


def set_xattr(parent: int, name: bytes, attribute: bytes, value: bytes, flags: int = 0) -> None:
    raise OSError(errno.ENOTSUP, "no extended attributes")


def remove_xattr(parent: int, name: bytes, attribute: bytes) -> None:
    raise OSError(errno.ENOTSUP, "no extended attributes")


# Of the process, and of sockets.


def open_limit() -> int:
    """How many files may be open; Windows has no such number."""
    return _MANY_FILES


def raise_open_limit() -> None:
    """There is none."""


def send_both(connection: socket.socket, head: bytes, data: bytes) -> None:
    """All of both."""
    connection.sendall(head)
    connection.sendall(data)


def send_some(connection: socket.socket, data: bytes) -> int:
    """What there is room for at once. Raises `BlockingIOError` for none."""
    if not select.select([], [connection], [], 0)[1]:
        raise BlockingIOError
    return connection.send(data)
