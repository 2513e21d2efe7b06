"""Waiting for log files to grow or to be rotated: inotify(7), one instance for all who follow; nothing is polled.

Folders are watched, not files: of a rotation nobody has to be told in time to watch the new file.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

_IN_MODIFY, _IN_CREATE, _IN_Q_OVERFLOW, _IN_IGNORED = 0x2, 0x100, 0x4000, 0x8000
_IN_CLOEXEC, _IN_NONBLOCK = 0o2000000, 0o4000
_EVENT = struct.Struct("iIII")
_READ_SIZE = 64 * 1024


class LogWatches:
    """Calls back when a file is written, made, or may have been."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._callbacks: dict[int, dict[object, tuple[bytes, Callable[[], None]]]] = {}

    def add(self, path: Path, callback: Callable[[], None]) -> Callable[[], None]:
        """Watch; what is returned ends that. Raises OSError."""
        folder, name = str(path.parent), os.fsencode(path.name)
        if self._fd < 0:
            self._fd = self._check(self._libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK), "inotify")
            asyncio.get_running_loop().add_reader(self._fd, self._on_events)
        try:
            watch = self._check(
                self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_MODIFY | _IN_CREATE), folder
            )
        except OSError:
            self._close_when_idle()
            raise
        key = object()
        self._callbacks.setdefault(watch, {})[key] = (name, callback)

        def end() -> None:
            listeners = self._callbacks.get(watch)
            if listeners is None or listeners.pop(key, None) is None or listeners:
                return
            del self._callbacks[watch]
            self._libc.inotify_rm_watch(self._fd, watch)
            self._close_when_idle()

        return end

    def _on_events(self) -> None:
        try:
            data = os.read(self._fd, _READ_SIZE)
        except BlockingIOError:
            return
        position = 0
        seen: set[tuple[int, bytes]] = set()
        while position < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size
            name = data[position : position + length].rstrip(b"\0")
            position += length
            if mask & _IN_Q_OVERFLOW:
                self._tell_all()
            elif mask & _IN_IGNORED:
                # The folder is gone, or its last listener: whoever still listens looks for himself.
                for _, callback in self._callbacks.get(watch, {}).values():
                    callback()
            else:
                seen.add((watch, name))
        for watch, name in seen:
            for wanted, callback in list(self._callbacks.get(watch, {}).values()):
                if wanted == name:
                    callback()

    def _tell_all(self) -> None:
        for listeners in self._callbacks.values():
            for _, callback in listeners.values():
                callback()

    def _close_when_idle(self) -> None:
        if self._fd >= 0 and not self._callbacks:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    @staticmethod
    def _check(result: int, what: str) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), what)
        return result
