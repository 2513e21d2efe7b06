"""Directories of QEMU's 9p that are held, so that watches on them live.

That mount caches no names: a directory that nobody has open is another inode for the kernel each time that it is looked up, and an
inotify watch, which is on the inode, hears nothing more. (Cached names would be wrong for ever there, for to QEMU's server nothing
can be pretended.) Held by a descriptor it stays what it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import threading
from collections import deque

log = logging.getLogger(__name__)

MAX_HELD = 4096
_ITSELF = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Pins:
    """Of one engine. Safe to use from several threads; all of it may wait for the user's computer, so it is not for the event loop."""

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()
        self._limit = min(MAX_HELD, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)

    def hold(self, path: str) -> None:
        """The directory and those below it, the nearest first; what is no directory is not held."""
        rest = deque([path])
        while rest:
            at = rest.popleft()
            try:
                fd = os.open(at, _ITSELF)
            except OSError:
                continue
            with self._lock:
                full = len(self._held) >= self._limit
                earlier = None if full else self._held.get(at)
                if not full:
                    self._held[at] = fd
            if full:
                os.close(fd)
                log.warning(
                    "only %d directories of the user's computer are held: events below %s are missed", self._limit, path
                )
                return
            if earlier is not None:
                os.close(earlier)
            with contextlib.suppress(OSError), os.scandir(f"/proc/self/fd/{fd}") as entries:
                rest.extend(f"{at}/{entry.name}" for entry in entries if entry.is_dir(follow_symlinks=False))

    def let_go(self, path: str) -> None:
        """Of a directory and all below it."""
        with self._lock:
            gone = [held for held in self._held if held == path or held.startswith(f"{path}/")]
            for held in gone:
                os.close(self._held.pop(held))
