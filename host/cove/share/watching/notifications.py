"""Changes on Windows, from the system itself (ReadDirectoryChangesW): a thread for each watched folder.

Not from watchdog, which says nothing when more happened than the system could tell, waits until nothing more happens, and takes
directories that were removed for files (docs/decisions/0067).
"""

from __future__ import annotations

import _winapi
import contextlib
import ctypes
import logging
import os
import stat
import struct
import sys
import threading
from collections.abc import Iterable, Iterator
from ctypes import wintypes
from pathlib import Path

from cove.share.watching.below import kind, lstat_below
from cove.share.watching.source import Seen, Tell

assert sys.platform == "win32"

log = logging.getLogger(__name__)

BUFFER = 64 << 10
"""Bytes that the system keeps for changes that have not been read; file servers take no more."""
_LIST_DIRECTORY = 0x1
_SHARED = 7
_BACKUP_SEMANTICS, _OVERLAPPED = 0x0200_0000, 0x4000_0000
_WHAT = 0x1 | 0x2 | 0x4 | 0x8 | 0x10
"""Names of files and of directories, attributes, sizes, times of writing."""
_ADDED, _REMOVED, _MODIFIED, _OLD_NAME, _NEW_NAME = 1, 2, 3, 4, 5
_BEGUN_S = 10.0
_MAX_PATH = 1 << 15
_KERNELS_NAME = 0x2
"""VOLUME_NAME_NT: what each file has, on whatever drive."""

Event = tuple[int, str]
"""What the system did to a name, which is a path below the folder, with slashes."""


class _Pending(ctypes.Structure):
    """OVERLAPPED"""

    _fields_ = [("internal", ctypes.c_void_p * 2), ("offset", wintypes.DWORD * 2), ("event", wintypes.HANDLE)]


class Notifications:
    """A `source.Source`."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._watches: dict[Path, _Watch] = {}
        self._lock = threading.Lock()

    def watch(self, within: Path, folder: Path, *, deep: bool = True) -> None:
        made = _Watch(self._tell, within, folder, deep=deep)
        with self._lock:
            before, self._watches[folder] = self._watches.pop(folder, None), made
        if before is not None:
            before.close()

    def unwatch(self, folder: Path) -> None:
        with self._lock:
            watch = self._watches.pop(folder, None)
        if watch is not None:
            watch.close()

    def unwatched(self) -> int:
        return 0

    def close(self) -> None:
        for folder in list(self._watches):
            self.unwatch(folder)


def _open(folder: Path) -> int:
    return _winapi.CreateFile(
        str(folder), _LIST_DIRECTORY, _SHARED, 0, _winapi.OPEN_EXISTING, _BACKUP_SEMANTICS | _OVERLAPPED, 0
    )


class _Watch:
    """One folder. Raises `OSError` when it cannot be watched."""

    def __init__(self, tell: Tell, within: Path, folder: Path, *, deep: bool) -> None:
        self._tell = tell
        self._within = within
        self._folder = folder
        self._deep = deep
        self._kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        self._directories = Directories()
        self._handle = self._opened(within, folder)
        self._open = True
        self._lock = threading.Lock()
        """Of `_open`: the number of a handle that is closed may be another file's."""
        self._closing = False
        self._begun = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)
        self._thread.start()
        self._begun.wait(_BEGUN_S)
        if self._failure is not None:
            raise self._failure
        if deep:
            self._directories.find(folder)

    def _opened(self, within: Path, folder: Path) -> int:
        """What is open is where it was meant to be, whatever a link on the way led to."""
        handle, root = _open(folder), _open(within)
        try:
            if self._place(handle) != self._place(root) / folder.relative_to(within):
                raise NotADirectoryError(f"{folder} leads out of {within}, or through a link")
        except BaseException:
            _winapi.CloseHandle(handle)
            raise
        finally:
            _winapi.CloseHandle(root)
        return handle

    def _place(self, handle: int) -> Path:
        text = ctypes.create_unicode_buffer(_MAX_PATH)
        if not self._kernel.GetFinalPathNameByHandleW(wintypes.HANDLE(handle), text, _MAX_PATH, _KERNELS_NAME):
            raise ctypes.WinError(ctypes.get_last_error())
        return Path(text.value)

    def close(self) -> None:
        with self._lock:
            self._closing = True
            if self._open:
                self._kernel.CancelIoEx(wintypes.HANDLE(self._handle), None)
        self._thread.join(_BEGUN_S)

    def _run(self) -> None:
        buffer, old = ctypes.create_string_buffer(BUFFER), ""
        event = self._kernel.CreateEventW
        event.restype = wintypes.HANDLE
        pending = _Pending(event=event(None, True, False, None))
        try:
            while not self._closing:
                count = self._next(buffer, pending)
                seen: list[Seen] = []
                for action, name in parsed(buffer.raw[:count]):
                    if action == _OLD_NAME:
                        old = name
                    elif (one := self._seen(action, name, old)) is not None:
                        seen.append(one)
                self._tell(self._folder, seen, not count)  # nothing: more than the system could keep
        except OSError as error:
            if not self._closing:
                self._failure = error
                if self._begun.is_set():
                    log.warning("changes in %s are not told any more: %s", self._folder, error)
                    self._tell(self._folder, [], True)
        finally:
            self._begun.set()
            with self._lock:
                self._open = False
                _winapi.CloseHandle(self._handle)
            _winapi.CloseHandle(pending.event)

    def _next(self, buffer: ctypes.Array[ctypes.c_char], pending: _Pending) -> int:
        """Bytes of what happened next. Raises `OSError`."""
        handle, count = wintypes.HANDLE(self._handle), wintypes.DWORD()
        if not self._kernel.ReadDirectoryChangesW(
            handle, buffer, BUFFER, self._deep, _WHAT, None, ctypes.byref(pending), None
        ):
            raise ctypes.WinError(ctypes.get_last_error())
        self._begun.set()
        if self._closing:
            self._kernel.CancelIoEx(handle, None)
        if not self._kernel.GetOverlappedResult(handle, ctypes.byref(pending), ctypes.byref(count), True):
            raise ctypes.WinError(ctypes.get_last_error())
        return count.value

    def _seen(self, action: int, name: str, old: str) -> Seen | None:
        if action == _REMOVED:
            return Seen("delete", name, self._directories.remove(name))
        found = lstat_below(self._within, self._folder / name)
        directory = found is not None and stat.S_ISDIR(kind(found))
        if action == _ADDED:
            if directory:
                self._directories.add(self._folder, name)
            return Seen("create", name, directory)
        if action == _NEW_NAME:
            if self._directories.remove(old) or directory:
                self._directories.add(self._folder, name)
            return Seen("move", old, directory, name)
        # A directory is "modified" when something in it was made or removed, which is told for itself.
        return Seen("modify", name) if action == _MODIFIED and not directory else None


class _Names(dict[str, "_Names"]):
    """The directories in one."""


class Directories:
    """Which names are directories: of one that was removed the system does not say it."""

    def __init__(self) -> None:
        self._known = _Names()
        self._lock = threading.Lock()

    def find(self, folder: Path, name: str = "") -> None:
        """All that are below. Links are not entered."""
        for place, names, _ in os.walk(folder / name):
            self._add(Path(place).relative_to(folder).parts)
            names[:] = [each for each in names if _is_directory(Path(place, each))]

    def add(self, folder: Path, name: str) -> None:
        self._add(name.split("/"))
        with contextlib.suppress(OSError):
            self.find(folder, name)

    def _add(self, names: Iterable[str]) -> None:
        with self._lock:
            known = self._known
            for name in names:
                known = known.setdefault(name.casefold(), _Names())

    def remove(self, name: str) -> bool:
        """Whether it was one; with it all that were below are none any more."""
        *above, last = name.casefold().split("/")
        with self._lock:
            known: _Names | None = self._known
            for each in above:
                known = known.get(each) if known is not None else None
            return known is not None and known.pop(last, None) is not None


def _is_directory(place: Path) -> bool:
    try:
        return stat.S_ISDIR(kind(place.lstat()))
    except OSError:
        return False


def parsed(data: bytes) -> Iterator[Event]:
    """FILE_NOTIFY_INFORMATION, one after the other."""
    place = 0
    while place < len(data):
        after, action, length = struct.unpack_from("<III", data, place)
        name = data[place + 12 : place + 12 + length].decode("utf-16-le", "surrogatepass")
        yield action, name.replace("\\", "/")
        if not after:
            return
        place += after
