"""Changes on macOS, from watchdog: FSEvents."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from coved.link.protocol import ChangeKind
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from cove.share.watching.source import Seen, Tell

log = logging.getLogger(__name__)

KINDS: dict[str, ChangeKind] = {
    "created": "create",
    "modified": "modify",
    "attrib": "attrib",
    "closed": "close",
    "deleted": "delete",
    "moved": "move",
}
"""Names of watchdog's events. Others (opened, closed without a write) are no changes."""


class Observed:
    """One observer of watchdog's, with its threads."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._observer: BaseObserver = Observer()
        self._observer.start()
        self._watches: dict[Path, ObservedWatch] = {}
        self._lock = threading.Lock()

    def watch(self, within: Path, folder: Path, *, deep: bool = True) -> None:
        if folder.resolve() != within.resolve() / folder.relative_to(within):
            raise NotADirectoryError(f"{folder} leads out of {within}, or through a symlink")
        watch = self._observer.schedule(_Handler(folder, self._tell), str(folder), recursive=deep)
        with self._lock:
            self._watches[folder] = watch

    def unwatch(self, folder: Path) -> None:
        with self._lock:
            watch = self._watches.pop(folder, None)
        if watch is not None:
            self._observer.unschedule(watch)

    def unwatched(self) -> int:
        return 0

    def close(self) -> None:
        self._observer.stop()
        self._observer.join(5)


class _Handler(FileSystemEventHandler):
    def __init__(self, folder: Path, tell: Tell) -> None:
        self._folder = folder
        self._tell = tell

    def on_any_event(self, event: FileSystemEvent) -> None:
        kind = KINDS.get(event.event_type)
        # A directory is "modified" when something in it was made or removed, which is told for itself.
        if kind is None or (kind == "modify" and event.is_directory):
            return
        if kind == "move" and event.is_synthetic:
            return  # made up for what is in a directory that moved
        path = self._below(event.src_path)
        to = self._below(event.dest_path) if kind == "move" else ""
        if path is None or to is None:
            return
        self._tell(self._folder, [Seen(kind, path, event.is_directory, to)], False)

    def _below(self, path: bytes | str) -> str | None:
        text = os.path.relpath(os.fsdecode(path), self._folder)
        if text.startswith(".."):
            return None
        return "" if text == "." else text.replace(os.sep, "/")
