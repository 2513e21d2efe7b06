"""Writes a tree of files as a tar archive, in chunks, from descriptors: no symbolic link in it is ever followed.

pax format (POSIX.1-2017). Two dialects: the files as they are, or an image layer made of an overlay's upper directory, whose
whiteouts become those of the OCI image spec (layer.md).
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Callable, Collection, Generator, Iterator

from coved.errors import EngineError
from coved.runtime.ids import Ids
from coved.store.trees import is_opaque

_CHUNK = 256 * 1024
_DEPTH_MAX = 512
_PATH_MAX = 4096  # which is what those who read archives, ours too, take
_END = bytes(1024)
_CAPABILITY = "security.capability"
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO that takes a file's place between stat and open must not block the engine.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def archive(
    parent: int,
    name: str,
    rename: str,
    ids: Ids,
    *,
    layer: bool = False,
    skip: Collection[str] = (),
    whole: bool = False,
) -> Iterator[bytes]:
    """The archive of ``name`` in the directory ``parent`` and of all below it.

    Args:
        name: one component; "." for the directory itself.
        rename: what its entry is called; "" leaves the entry of the directory itself out.
        ids: of the owners of the files.
        layer: ``parent`` is an overlay's upper directory.
        skip: paths below ``name`` that are left out, without a leading slash.
        whole: with all attributes that files have, not only capabilities, and with the fractions of their times; nested as deep
            as paths may be long.

    The descriptor stays the caller's, and must stay open until the iterator is at its end or closed.
    """
    writer = _Writer(ids, layer, frozenset(skip), whole)
    yield from writer.entry(parent, name, rename, "")
    yield _END


class _Writer:
    def __init__(self, ids: Ids, layer: bool, skip: frozenset[str], whole: bool) -> None:
        self._attributes: Callable[[int], dict[str, str]] = _all_attributes if whole else _capability
        self._whole = whole
        self._ids = ids
        self._layer = layer
        self._skip = skip
        self._linked: dict[tuple[int, int], str] = {}

    def entry(self, parent: int, name: str, shown: str, path: str) -> Iterator[bytes]:
        """One entry, and for a directory what is in it. Without recursion, for a container may nest as deep as it likes."""
        stack: list[tuple[int, Iterator[str], str, str]] = []
        try:
            directory = yield from self._one(parent, name, shown)
            if directory >= 0:
                stack.append((directory, _names(directory), shown, path))
            while stack:
                current, names, prefix, place = stack[-1]
                child = next(names, None)
                if child is None:
                    os.close(current)
                    stack.pop()
                    continue
                below = f"{place}/{child}" if place else child
                if below in self._skip:
                    continue
                title = f"{prefix}{'' if prefix in ('', '/') else '/'}{child}"
                try:
                    directory = yield from self._one(current, child, title)
                except FileNotFoundError:
                    continue  # removed in the meantime
                if directory >= 0:
                    if self._whole and len(os.fsencode(title)) + 1 >= _PATH_MAX:
                        os.close(directory)
                        raise EngineError(f"a path is longer than {_PATH_MAX} bytes: {title[:200]}...")
                    if not self._whole and len(stack) >= _DEPTH_MAX:
                        os.close(directory)
                        raise EngineError(f"directories are nested more than {_DEPTH_MAX} deep at {title[:200]}...")
                    stack.append((directory, _names(directory), title, below))
        finally:
            for current, *_ in stack:
                os.close(current)

    def _one(self, parent: int, name: str, shown: str) -> Generator[bytes, None, int]:
        """The entry itself; gives a descriptor when it is a directory, else -1."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            yield from self._file(parent, name, shown, status)
            return -1
        if kind == stat.S_IFDIR:
            fd = os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
            if shown:
                yield self._header(f"{shown}/" if shown != "/" else shown, status, self._attributes(fd))
            if self._layer and is_opaque(fd):
                yield _whiteout(f"{shown}/.wh..wh..opq" if shown else ".wh..wh..opq")
            return fd
        if self._layer and kind == stat.S_IFCHR and status.st_rdev == 0:
            head, _, tail = shown.rpartition("/")
            yield _whiteout(f"{head}/.wh.{tail}" if head else f".wh.{tail}")
        elif kind in _TYPES:  # a socket means nothing without its process
            link = os.readlink(name, dir_fd=parent) if kind == stat.S_IFLNK else ""
            yield self._header(shown, status, {}, link)
        return -1

    def _file(self, parent: int, name: str, shown: str, seen: os.stat_result) -> Iterator[bytes]:
        inode = (seen.st_dev, seen.st_ino)
        if seen.st_nlink > 1 and inode in self._linked:
            info = self._info(shown, seen, tarfile.LNKTYPE, self._linked[inode])
            yield _encoded(info)
            return
        fd = os.open(name, _OPEN_FILE, dir_fd=parent)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return  # something else has taken its place
            if status.st_nlink > 1:
                self._linked[inode] = shown
            yield self._header(shown, status, self._attributes(fd))
            left = status.st_size
            while left:
                # A file that shrinks meanwhile is filled up: its size has been promised.
                data = os.read(fd, min(_CHUNK, left)) or bytes(min(_CHUNK, left))
                left -= len(data)
                yield data
            yield bytes(-status.st_size % tarfile.BLOCKSIZE)
        finally:
            os.close(fd)

    def _header(self, shown: str, status: os.stat_result, pax: dict[str, str], link: str = "") -> bytes:
        info = self._info(shown, status, _TYPES[stat.S_IFMT(status.st_mode)], link)
        if self._whole and status.st_mtime_ns % 10**9:
            pax["mtime"] = f"{status.st_mtime_ns // 10**9}.{status.st_mtime_ns % 10**9:09d}"
        info.pax_headers = pax
        return _encoded(info)

    def _info(self, shown: str, status: os.stat_result, kind: bytes, link: str) -> tarfile.TarInfo:
        info = tarfile.TarInfo(shown)
        info.type, info.linkname = kind, link
        info.mode = stat.S_IMODE(status.st_mode)
        info.uid, info.gid = self._ids.inside(status.st_uid, status.st_gid)
        info.mtime = int(status.st_mtime)
        info.size = status.st_size if kind == tarfile.REGTYPE else 0
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        return info


def _names(directory: int) -> Iterator[str]:
    return iter(sorted(os.listdir(directory)))


def _encoded(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _whiteout(shown: str) -> bytes:
    return _encoded(tarfile.TarInfo(shown))


def _capability(fd: int) -> dict[str, str]:
    """File capabilities, the one attribute that dockerd's archives carry too."""
    with contextlib.suppress(OSError):
        value = os.getxattr(fd, _CAPABILITY)
        return {f"SCHILY.xattr.{_CAPABILITY}": value.decode("utf-8", "surrogateescape")}
    return {}


def _all_attributes(fd: int) -> dict[str, str]:
    """Those that a file's owner or root has given it; the others are the kernel's and the file system's."""
    found = {}
    with contextlib.suppress(OSError):  # a file system without attributes
        for name in os.listxattr(fd):
            if name.startswith(("user.", "system.posix_acl_")) or name == _CAPABILITY:
                with contextlib.suppress(OSError):  # removed in the meantime
                    found[f"SCHILY.xattr.{name}"] = os.getxattr(fd, name).decode("utf-8", "surrogateescape")
    return found
