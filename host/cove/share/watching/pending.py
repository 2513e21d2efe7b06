"""Changes that wait to be told, made few: a burst of them must not grow without end, nor cost the guest more than it is worth."""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from coved.link.protocol import Change, What

from cove.share.watching.below import kind, lstat_below
from cove.share.watching.source import Seen

MAX_PENDING = 1024
"""Of one folder. More are not told one by one: the guest forgets what it has cached."""
MAX_BATCH = 64
"""Each costs the guest some requests, and what comes after the message waits for all of them."""
MAX_BATCH_BYTES = 256 << 10
_CONTENT = ("modify", "close")


class Pending:
    """What happened in one folder and has not been told."""

    def __init__(self) -> None:
        self._seen: deque[Seen] = deque()
        self._last: dict[str, Seen] = {}
        """The last change of a path, while it is the last of `_seen` that concerns it."""
        self.lost = False

    def __bool__(self) -> bool:
        return self.lost or bool(self._seen)

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, seen: Iterable[Seen]) -> None:
        for one in seen:
            self._add(one)
        if len(self._seen) > MAX_PENDING:
            self.lose()

    def lose(self) -> None:
        """There is more than can be told."""
        self._seen.clear()
        self._last.clear()
        self.lost = True

    def take(self) -> tuple[list[Seen], bool]:
        """The next to be told, and whether others were lost before them."""
        taken: list[Seen] = []
        room = MAX_BATCH_BYTES
        while self._seen and len(taken) < MAX_BATCH:
            room -= 4 * (2 * len(self._seen[0].path) + 2 * len(self._seen[0].to)) + 100
            if room < 0 and taken:
                break
            taken.append(self._seen.popleft())
        self._last.clear()
        lost, self.lost = self.lost, False
        return taken, lost

    def _add(self, one: Seen) -> None:
        if not _tellable(one):
            return
        last = self._last.get(one.path)
        if one.kind in ("create", "delete", "move"):
            self._last.clear()  # of a directory, all below are concerned
        elif last is not None:
            if one.kind == last.kind or (one.kind == "attrib" and last.kind == "create"):
                return
            if one.kind in _CONTENT and last.kind in _CONTENT:
                if last.kind == "close":
                    self._seen[self._seen.index(last)] = self._last[one.path] = Seen("modify", one.path)
                return
        self._seen.append(one)
        self._last[one.path] = one


def _tellable(one: Seen) -> bool:
    try:
        f"{one.path}{one.to}".encode()
    except UnicodeEncodeError:  # JSON has no such text
        return False
    return len(one.path) + len(one.to) < 3000


def describe(within: Path, folder: Path, seen: Sequence[Seen]) -> list[Change]:
    """The changes with what the guest needs to know of the files now; those of files that have gone, and to which only
    that matters, are left out. It looks at each file, so it is not for an event loop.
    """
    changes = []
    for index, one in enumerate(seen):
        real = _now_at(one.to if one.kind == "move" else one.path, seen[index + 1 :])
        found = lstat_below(within, folder / real) if real is not None else None
        what = _what(kind(found)) if found is not None else "dir" if one.directory else "file"
        if what is None:
            continue
        match one.kind:
            case "create" | "move":
                changes.append(Change(one.kind, one.path, what, one.to, real if found is not None else None))
            case "modify" | "close":
                if found is not None and what == "file":
                    changes.append(Change(one.kind, one.path))
            case "attrib":
                if found is not None:
                    changes.append(Change(one.kind, one.path, what))
            case "delete":
                changes.append(Change(one.kind, one.path, "dir" if one.directory else "file"))
    return changes


def _now_at(path: str, later: Sequence[Seen]) -> str | None:
    """Where the file that was at ``path`` is after what came later; None: nowhere."""
    at = path
    for one in later:
        if one.kind == "move" and (at == one.path or at.startswith(one.path + "/")):
            at = one.to + at[len(one.path) :]
        elif (one.kind == "delete" and (at == one.path or at.startswith(one.path + "/"))) or (
            one.kind == "move" and at == one.to
        ):
            return None
    return at


def _what(found: int) -> What | None:
    match found:
        case stat.S_IFREG:
            return "file"
        case stat.S_IFDIR:
            return "dir"
        case stat.S_IFLNK:
            return "symlink"
        case stat.S_IFIFO:
            return "fifo"
        case stat.S_IFSOCK:
            return "socket"
    return None
