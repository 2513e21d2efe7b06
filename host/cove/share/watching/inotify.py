"""Changes on Linux, from inotify(7), by directory: libraries over it lose what matters here (decision 0047)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import selectors
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cove.share.watching.below import OPEN, open_below
from cove.share.watching.source import Seen, Tell

IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE = 0x2, 0x4, 0x8
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
IN_Q_OVERFLOW, IN_IGNORED, IN_ISDIR = 0x4000, 0x8000, 0x40000000
IN_ONLYDIR, IN_EXCL_UNLINK = 0x01000000, 0x04000000
MASK = (
    IN_MODIFY
    | IN_ATTRIB
    | IN_CLOSE_WRITE
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_ONLYDIR
    | IN_EXCL_UNLINK
)
MAX_WATCHES = 65536
"""Directories; each costs the kernel about 1 KB, and the user may have other programs that watch."""
GATHER_S = 0.005
"""What belongs together (both halves of a move, a write and its close) comes within it."""
READ = 1 << 18
MAX_READS = 16
"""Then what has been seen is told, though more is coming all the time."""
_EVENT = struct.Struct("iIII")


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@dataclass(slots=True, eq=False)
class _Directory:
    """A watched directory in the tree of them."""

    wd: int
    name: str
    parent: _Directory | None
    root: _Root
    children: dict[str, _Directory] = field(default_factory=dict)

    def path(self) -> str:
        names: list[str] = []
        at = self
        while at.parent is not None:
            names.append(at.name)
            at = at.parent
        return "/".join(reversed(names))


@dataclass(slots=True, eq=False)
class _Root:
    within: Path
    folder: Path
    deep: bool
    top: _Directory | None = None
    seen: list[Seen] = field(default_factory=list)
    lost: bool = False


@dataclass(frozen=True, slots=True)
class _Away:
    """The first half of a move."""

    at: _Directory
    name: str
    path: str
    directory: bool
    index: int
    """How much had been seen before."""


Moves = dict[int, _Away]
"""By the cookie that both halves have."""


class Inotify:
    """One inotify instance, and a thread that reads it while anything is watched."""

    def __init__(self, tell: Tell, *, limit: int = MAX_WATCHES) -> None:
        self._tell = tell
        self._limit = limit
        self._fd = _checked(_libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lock = threading.Lock()
        self._directories: dict[int, _Directory] = {}
        self._roots: dict[Path, _Root] = {}
        self._left_out = 0
        self._found: set[tuple[int, str]] = set()
        """Entries of new directories that were told when these were entered, whose events may follow still."""
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="inotify", daemon=True)
        self._thread.start()

    def watch(self, within: Path, folder: Path, *, deep: bool = True) -> None:
        root = _Root(within, folder, deep)
        fd = open_below(within, folder)
        try:
            with self._lock:
                self._drop(folder)
                root.top = self._add(fd, "", None, root)
                if root.top is None:
                    raise OSError(errno.ENOSPC, "the system allows no more directories to be watched")
                self._roots[folder] = root
            if deep:
                self._enter(root.top, None)
        finally:
            os.close(fd)

    def unwatch(self, folder: Path) -> None:
        with self._lock:
            self._drop(folder)

    def unwatched(self) -> int:
        return self._left_out

    def close(self) -> None:
        self._closed = True
        os.write(self._wake_w, b"!")
        self._thread.join(5)

    def _drop(self, folder: Path) -> None:
        root = self._roots.pop(folder, None)
        if root is not None and root.top is not None:
            self._forget(root.top)
        if not self._roots:
            self._left_out = 0

    def _forget(self, directory: _Directory) -> None:
        """The directory has gone from the tree, and so has all below it."""
        if directory.parent is not None:
            directory.parent.children.pop(directory.name, None)
        rest = [directory]
        while rest:
            gone = rest.pop()
            rest.extend(gone.children.values())
            if self._directories.get(gone.wd) is gone:
                del self._directories[gone.wd]
                _libc().inotify_rm_watch(self._fd, gone.wd)  # fails when the directory has been removed

    def _add(self, fd: int, name: str, parent: _Directory | None, root: _Root) -> _Directory | None:
        """None when there is no room for another. By the descriptor, so that no symlink put in its place meanwhile is followed."""
        if len(self._directories) >= self._limit:
            self._left_out += 1
            return None
        wd = _libc().inotify_add_watch(self._fd, f"/proc/self/fd/{fd}".encode(), MASK)
        if wd < 0:
            if (number := ctypes.get_errno()) != errno.ENOSPC:
                raise OSError(number, os.strerror(number))
            self._left_out += 1
            return None
        known = self._directories.get(wd)
        if known is not None and known.parent is not None:
            known.parent.children.pop(known.name, None)  # it was moved, which is told later
        directory = _Directory(wd, name, parent, root)
        if known is not None:
            directory.children = known.children
            for child in directory.children.values():
                child.parent = directory
        self._directories[wd] = directory
        if parent is not None:
            parent.children[name] = directory
        return directory

    def _enter(self, top: _Directory, found: list[Seen] | None) -> None:
        """Watch all directories below, those near the top first; ``found`` gets all that is there."""
        root = top.root
        rest = deque([(top, top.path())])
        while rest:
            at, path = rest.popleft()
            try:
                fd = open_below(root.within, root.folder / path)
            except OSError:
                continue  # moved or removed meanwhile, of which there is an event
            try:
                for name, is_directory in _entries(fd):
                    below = f"{path}/{name}" if path else name
                    if found is not None:
                        found.append(Seen("create", below, is_directory))
                        self._found.add((at.wd, name))
                    if is_directory and (child := self._add_below(fd, at, name)) is not None:
                        rest.append((child, below))
            finally:
                os.close(fd)

    def _add_below(self, fd: int, at: _Directory, name: str) -> _Directory | None:
        """None when it is watched already, or cannot be."""
        try:
            child = os.open(name, OPEN, dir_fd=fd)
        except OSError:
            return None  # removed meanwhile, or not for this user
        try:
            with self._lock:
                if self._directories.get(at.wd) is not at or name in at.children:
                    return None
                return self._add(child, name, at, at.root)
        except OSError:
            return None
        finally:
            os.close(child)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._fd, selectors.EVENT_READ)
            selector.register(self._wake_r, selectors.EVENT_READ)
            while True:
                selector.select()
                if self._closed:
                    break
                self._gather()
        for fd in (self._fd, self._wake_r, self._wake_w):
            os.close(fd)

    def _gather(self) -> None:
        """Take in what has happened, with what belongs to it and is just happening."""
        moves: Moves = {}
        for last in (False, True):
            time.sleep(GATHER_S)
            for _ in range(MAX_READS):
                if not (data := self._read()):
                    break
                for wd, mask, cookie, name in _parse(data):
                    self._event(wd, mask, cookie, name, moves)
            if not moves or last:
                break
        with self._lock:
            self._found.clear()
            for away in moves.values():
                self._moved_out(away)
            roots = [root for root in self._roots.values() if root.seen or root.lost]
            told = [(root.folder, root.seen, root.lost) for root in roots]
            for root in roots:
                root.seen, root.lost = [], False
        for folder, seen, lost in told:
            self._tell(folder, seen, lost)

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, READ)
        except BlockingIOError:
            return b""

    def _event(self, wd: int, mask: int, cookie: int, name: str, moves: Moves) -> None:
        if mask & IN_Q_OVERFLOW:
            self._overflow()
            return
        with self._lock:
            at = self._directories.get(wd)
            if at is None or (mask & IN_IGNORED):
                return
            entering = self._note(at, mask, cookie, name, moves)
        if entering:
            self._enter_new(at, name)

    def _note(self, at: _Directory, mask: int, cookie: int, name: str, moves: Moves) -> bool:
        """Whether a directory has come that has to be entered."""
        root, directory = at.root, bool(mask & IN_ISDIR)
        path = at.path()
        path = f"{path}/{name}" if path and name else path or name
        if mask & IN_MOVED_FROM:
            moves[cookie] = _Away(at, name, path, directory, len(root.seen))
        elif mask & IN_MOVED_TO:
            if came := moves.pop(cookie, None):
                return self._moved(came, at, name, path, directory)
            root.seen.append(Seen("create", path, directory))
            return directory
        elif mask & IN_CREATE:
            if (at.wd, name) in self._found:
                self._found.discard((at.wd, name))
                return False
            root.seen.append(Seen("create", path, directory))
            return directory
        elif mask & IN_DELETE:
            if directory and name in at.children:
                self._forget(at.children[name])
            root.seen.append(Seen("delete", path, directory))
        elif mask & IN_MODIFY:
            root.seen.append(Seen("modify", path))
        elif mask & IN_CLOSE_WRITE:
            root.seen.append(Seen("close", path))
        elif mask & IN_ATTRIB:
            root.seen.append(Seen("attrib", path, directory))
        return False

    def _moved(self, came: _Away, at: _Directory, name: str, path: str, directory: bool) -> bool:
        if came.at.root is not at.root:
            self._moved_out(came)
            at.root.seen.append(Seen("create", path, directory))
            return directory
        at.root.seen.append(Seen("move", came.path, directory, to=path))
        moved = came.at.children.pop(came.name, None)
        if moved is None:
            return directory  # it could not be watched where it was
        if name in at.children:
            self._forget(at.children[name])
        moved.parent, moved.name = at, name
        at.children[name] = moved
        return False

    def _moved_out(self, away: _Away) -> None:
        if away.directory and away.name in away.at.children:
            self._forget(away.at.children[away.name])
        seen = away.at.root.seen
        # What happened there since is no longer the folder's.
        later = [one for one in seen[away.index :] if not one.path.startswith(away.path + "/")]
        seen[away.index :] = [Seen("delete", away.path, away.directory), *later]

    def _enter_new(self, at: _Directory, name: str) -> None:
        """Watch a directory that came, and tell what was put into it before."""
        root = at.root
        if not root.deep:
            return
        try:
            fd = open_below(root.within, root.folder / at.path() / name)
        except OSError:
            return  # gone again, of which there is an event
        try:
            with self._lock:
                if self._directories.get(at.wd) is not at:
                    return
                directory = self._add(fd, name, at, root)
            if directory is not None:
                self._enter(directory, root.seen)
        except OSError:
            return
        finally:
            os.close(fd)

    def _overflow(self) -> None:
        """What was lost may have been new directories, so all are entered again."""
        with self._lock:
            roots = list(self._roots.values())
        for root in roots:
            root.seen.clear()
            root.lost = True
            with contextlib.suppress(OSError):
                self.watch(root.within, root.folder, deep=root.deep)
            with self._lock:
                if (again := self._roots.get(root.folder)) is not None:
                    again.lost = True


def _parse(data: bytes) -> Iterator[tuple[int, int, int, str]]:
    at = 0
    while at < len(data):
        wd, mask, cookie, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield wd, mask, cookie, os.fsdecode(data[at : at + length].rstrip(b"\0"))
        at += length


def _entries(fd: int) -> list[tuple[str, bool]]:
    try:
        with os.scandir(fd) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:
        return []
