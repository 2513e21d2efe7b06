"""A tree of files on its way into a directory (fsutil's receiver): what is there already stays, the rest is asked for.

It blocks, and is told of the packets in the order in which they come, by one thread at a time. Entries come in the order of their
paths, each after the folder it is in; that is insisted on, so that every path leads through folders which this transfer has made or
found, and which are opened one by one with O_NOFOLLOW. Files are written beside the tree and put into their places by rename(2).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from coved.build.files.places import OPEN_DIRECTORY
from coved.buildkit import filemode
from coved.buildkit.messages import Stat
from coved.errors import InvalidParameter
from coved.store.trees import remove_entry

ENTRIES_MAX = 2_000_000
_PATH_MAX = 4096
_NAME_MAX = 255
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTRIBUTES = ("user.", "security.capability")
"""Others steer the kernel (overlayfs's), or are the client's system's own."""
_ATTRIBUTE_MAX = 65536
_OPEN_FOLDERS = 64


class BadTree(InvalidParameter):
    """What the client sends is no tree of files."""


@dataclass
class _Folder:
    stat: Stat
    names: set[str] = field(default_factory=set)
    """What the client has in it."""
    last: bytes = b""


@dataclass
class _File:
    path: str
    stat: Stat
    fd: int = -1


class Arriving:
    def __init__(self, root: int, spare: int) -> None:
        """
        Args:
            root: descriptor of the directory that becomes the client's tree; nobody else changes it.
            spare: descriptor of an empty one on the same file system.

        Both stay the caller's.
        """
        self._root = root
        self._spare = spare
        self._folders = {"": _Folder(Stat())}
        self._open: OrderedDict[str, int] = OrderedDict()
        self._regular: set[str] = set()
        self._links: list[tuple[str, str]] = []
        self._files: dict[int, _File] = {}
        """Asked for, and not complete."""
        self._count = 0

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
        for file in self._files.values():
            if file.fd >= 0:
                os.close(file.fd)
        self._files.clear()

    @property
    def waiting(self) -> int:
        """Files that are yet to come."""
        return len(self._files)

    # -- what is told

    def entry(self, entry: Stat) -> int | None:
        """The next one; its number when its content is wanted. Raises BadTree, OSError."""
        number = self._count
        self._count += 1
        if number >= ENTRIES_MAX:
            raise BadTree(f"the tree has more than {ENTRIES_MAX} entries")
        parent, name = self._check(entry.path)
        try:
            mode = filemode.from_go(entry.mode)
        except ValueError as error:
            raise BadTree(f"{entry.path}: {error}") from None
        with _named(entry.path):
            return self._entry(number, entry, mode, parent, name)

    def data(self, number: int, data: bytes) -> None:
        """A piece of a file; an empty one ends it. Raises BadTree, OSError."""
        file = self._files.get(number)
        if file is None:
            raise BadTree(f"invalid file request {number}")
        with _named(file.path):
            if file.fd < 0:
                file.fd = os.open(str(number), _CREATE, 0o600, dir_fd=self._spare)
            if data:
                view = memoryview(data)
                while view:
                    view = view[os.write(file.fd, view) :]
                return
            self._complete(number, file)

    def finish(self) -> None:
        """All have come: links are made, and what the client does not have any more is removed. Raises BadTree, OSError."""
        for path, target in self._links:
            with _named(path):
                self._link(path, target)
        for path, folder in self._folders.items():
            fd = self._folder(path)
            with _named(path or "."):
                for name in os.listdir(fd):  # noqa: PTH208 - of a descriptor
                    if name not in folder.names:
                        remove_entry(fd, name)
        # From the innermost out, for a folder's time changes with what is in it.
        for path in sorted(self._folders, reverse=True):
            if path:
                with _named(path):
                    _settle(self._folder(path), self._folders[path].stat)

    # -- entries

    def _check(self, path: str) -> tuple[str, str]:
        """The folder that it is in, and its name there. Raises BadTree."""
        raw = os.fsencode(path)
        if not path or "\0" in path or len(raw) >= _PATH_MAX:
            raise BadTree(f"invalid path {path[:100]!r}")
        if path.startswith("/"):
            raise BadTree(f"absolute path {path} not allowed")
        parent, _, name = path.rpartition("/")
        if name in ("", ".", "..") or len(os.fsencode(name)) > _NAME_MAX:
            raise BadTree(f"invalid unclean path {path[:200]!r}")
        folder = self._folders.get(parent)
        if folder is None:
            raise BadTree(f"changes out of order: {path!r} is in no folder that came before")
        if os.fsencode(name) <= folder.last:
            raise BadTree(f"changes out of order: {path!r} comes after {os.fsdecode(folder.last)!r}")
        folder.last = os.fsencode(name)
        folder.names.add(name)
        return parent, name

    def _entry(self, number: int, entry: Stat, mode: int, parent: str, name: str) -> int | None:
        folder = self._folder(parent)
        try:
            found: os.stat_result | None = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            found = None
        kind = stat.S_IFMT(mode)
        if found is not None and stat.S_IFMT(found.st_mode) != kind:
            remove_entry(folder, name)
            found = None
        if kind == stat.S_IFDIR:
            if found is None:
                os.mkdir(name, 0o700, dir_fd=folder)
            self._folders[entry.path] = _Folder(entry)
        elif kind == stat.S_IFLNK:
            self._symbolic_link(folder, name, entry, found)
        elif kind == stat.S_IFREG:
            if entry.linkname and entry.linkname in self._regular:
                self._links.append((entry.path, entry.linkname))
                return None
            self._regular.add(entry.path)
            return self._file(number, folder, name, entry, mode, found)
        elif kind == stat.S_IFIFO:
            if found is None:
                os.mkfifo(name, 0o600, dir_fd=folder)
            os.chmod(name, stat.S_IMODE(mode), dir_fd=folder)
        else:
            raise BadTree(f"{entry.path}: devices and sockets cannot be part of a build context")
        return None

    def _symbolic_link(self, folder: int, name: str, entry: Stat, found: os.stat_result | None) -> None:
        if not entry.linkname or "\0" in entry.linkname or len(os.fsencode(entry.linkname)) >= _PATH_MAX:
            raise BadTree(f"{entry.path}: invalid symbolic link")
        if found is not None:
            if os.readlink(name, dir_fd=folder) == entry.linkname:
                return
            os.unlink(name, dir_fd=folder)
        os.symlink(entry.linkname, name, dir_fd=folder)
        os.utime(name, ns=(entry.mod_time, entry.mod_time), dir_fd=folder, follow_symlinks=False)

    def _file(
        self, number: int, folder: int, name: str, entry: Stat, mode: int, found: os.stat_result | None
    ) -> int | None:
        if (
            found is not None
            and found.st_size == entry.size
            and found.st_mtime_ns == entry.mod_time
            and stat.S_IMODE(found.st_mode) == stat.S_IMODE(mode)
        ):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                if _attributes_of(fd) == _allowed(entry):
                    return None
            finally:
                os.close(fd)
        self._files[number] = _File(entry.path, entry)
        return number

    def _complete(self, number: int, file: _File) -> None:
        fd, file.fd = file.fd, -1
        try:
            _settle(fd, file.stat)
        finally:
            os.close(fd)
        parent, _, name = file.path.rpartition("/")
        os.rename(str(number), name, src_dir_fd=self._spare, dst_dir_fd=self._folder(parent))
        del self._files[number]

    def _link(self, path: str, target: str) -> None:
        parent, _, name = path.rpartition("/")
        other_parent, _, other = target.rpartition("/")
        source = os.dup(self._folder(other_parent))
        try:
            wanted = os.stat(other, dir_fd=source, follow_symlinks=False)
            folder = self._folder(parent)
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return
                remove_entry(folder, name)
            os.link(other, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(source)

    # -- folders

    def _folder(self, path: str) -> int:
        """A descriptor, good until the next call."""
        names: list[str] = []
        while path and path not in self._open:
            path, _, name = path.rpartition("/")
            names.append(name)
        if path:
            self._open.move_to_end(path)
        fd = self._open[path] if path else self._root
        while names:
            name = names.pop()
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=fd)
            path = f"{path}/{name}" if path else name
            self._open[path] = fd
            if len(self._open) > _OPEN_FOLDERS:
                os.close(self._open.popitem(last=False)[1])
        return fd


def _settle(fd: int, entry: Stat) -> None:
    """Mode, attributes and time of a file or a folder. Its owner is who writes it, root, whoever it is at the client's."""
    os.fchmod(fd, stat.S_IMODE(filemode.from_go(entry.mode)))
    wanted = _allowed(entry)
    for name in _attributes_of(fd).keys() - wanted.keys():
        os.removexattr(fd, name)
    for name, value in wanted.items():
        with contextlib.suppress(OSError):  # not every file system has them; BuildKit does not insist either
            os.setxattr(fd, name, value)
    os.utime(fd, ns=(entry.mod_time, entry.mod_time))


def _allowed(entry: Stat) -> dict[str, bytes]:
    return {
        name: value
        for name, value in entry.xattrs.items()
        if name.startswith(_ATTRIBUTES) and "\0" not in name and len(value) <= _ATTRIBUTE_MAX
    }


def _attributes_of(fd: int) -> Mapping[str, bytes]:
    try:
        names = os.listxattr(fd)
    except OSError:
        return {}
    return {name: os.getxattr(fd, name) for name in names if name.startswith(_ATTRIBUTES)}


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Says of numbers that no system call takes where they stand; a system's error keeps its kind."""
    try:
        yield
    except (OverflowError, ValueError) as error:
        raise BadTree(f"{path}: {error}") from None
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise
