"""Directories of QEMU's 9p that are held, so that watches on them live.

That mount caches no names: a directory that nobody has open is another inode for the kernel each time that it is looked up, and an
inotify watch, which is on the inode, hears nothing more. (Cached names would be wrong for ever there, for to QEMU's server nothing
can be pretended.) Held by a descriptor it stays what it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import resource
import threading
from collections import deque
from collections.abc import Iterable

from coved.watching import mounted
from coved.watching.place import Place

log = logging.getLogger(__name__)

MAX_HELD = 4096
_ITSELF = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Pins:
    """Of one engine. Safe to use from several threads; but for `want`, all of it may wait for the user's computer."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()
        self._limit = min(MAX_HELD, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._wanted: frozenset[str] = frozenset()
        self._work: queue.SimpleQueue[frozenset[str]] = queue.SimpleQueue()
        self._settled = threading.Event()
        self._settled.set()
        self._thread: threading.Thread | None = None

    def want(self, paths: Iterable[str]) -> None:
        """What is QEMU's of these directories, and all below, is to be held, and nothing else. Does not wait for that."""
        wanted = frozenset(paths)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._settled.clear()
        self._work.put(wanted)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="holding", daemon=True)
            self._thread.start()

    def settle(self, timeout_s: float) -> None:
        """Return when what was wanted last is held and the rest is not, or after so many seconds."""
        self._settled.wait(timeout_s)

    def _run(self) -> None:
        whole: set[str] = set()
        while True:
            wanted = self._work.get()
            try:
                self._close([held for held in self._copy() if not within(held, self._wanted)])
                outermost = {path for path in wanted if not within(_above(path), wanted)}
                whole &= outermost
                for path in sorted(outermost - whole):
                    mount = mounted.find(path)
                    if (mount is None or mount.kind != "qemu") or self.hold(path):
                        whole.add(path)
            except Exception:
                log.exception("directories of the user's computer are not held")
            if self._work.empty():
                self._settled.set()

    def hold(self, path: str) -> bool:
        """The directory and those below it, the nearest first; what is no directory is not held. False: not wanted any more."""
        mount = mounted.find(path)
        if mount is None:
            return True
        try:
            with contextlib.closing(Place(mount.point)) as place:
                fd = place.directory(mount.below(path))
        except OSError:
            return True
        rest: deque[str] = deque()
        at = path
        while True:
            names = _directories(fd)
            if not self._keep(at, fd):
                return within(at, self._wanted)
            rest.extend(f"{at}/{name}" for name in names)
            while True:
                if not rest:
                    return True
                at = rest.popleft()
                if (found := self._open(at)) is not None:
                    fd = found
                    break

    def _open(self, at: str) -> int | None:
        """By the directory above, which is held: a container may have put a link in any other place of the way meanwhile."""
        above, _, name = at.rpartition("/")
        with self._lock:
            if (held := self._held.get(above)) is None:
                return None
            parent = os.dup(held)
        try:
            return os.open(name, _ITSELF, dir_fd=parent)
        except OSError:
            return None
        finally:
            os.close(parent)

    def _keep(self, at: str, fd: int) -> bool:
        """Whether it is held now; the descriptor is closed when not."""
        with self._lock:
            full = at not in self._held and len(self._held) >= self._limit
            kept = not full and within(at, self._wanted)
            other = self._held.get(at) if kept else fd
            if kept:
                self._held[at] = fd
        if full:
            log.warning(
                "only %d directories of the user's computer are held: events below %s are missed", self._limit, at
            )
        if other is not None:
            os.close(other)
        return kept

    def let_go(self, path: str) -> None:
        """Of a directory and all below it."""
        self._close([held for held in self._copy() if within(held, {path})])

    def _copy(self) -> list[str]:
        with self._lock:
            return list(self._held)

    def _close(self, paths: Iterable[str]) -> None:
        for path in paths:
            with self._lock:
                fd = self._held.pop(path, None)
            if fd is not None:
                os.close(fd)


def within(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of the folders, or lies in one."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _above(path: str) -> str:
    return path.rpartition("/")[0]


def _directories(fd: int) -> list[str]:
    try:
        with os.scandir(f"/proc/self/fd/{fd}") as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
