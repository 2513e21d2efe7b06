"""Build contexts that are kept, so that the next build is sent only what has changed.

Each is a folder of the store with a name of its own, and beside it a note (``NAME.json``) which says whose it is. There is a note
as long as the folder is whole and nobody changes it: what a kill leaves has none, and is removed. A folder is a machine's, too: what
another boot left may never have reached the disk, unless ``close`` saw to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from coved.store.trees import remove_tree, sync, sync_file_system, tree_size

log = logging.getLogger(__name__)

LIMIT_BYTES = 4 << 30
"""Of all contexts that nobody uses; those not used for longest go first."""
LIMIT_COUNT = 200
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SYNCED = "synced"
_BOOT = "boot"


@dataclass
class Kept:
    """A context that nobody uses. Times in nanoseconds since the epoch."""

    name: str
    key: str
    description: str
    """For people."""
    size: int
    created_ns: int
    used_ns: int
    uses: int


class Folder:
    """A context in use, which is whoever's alone who uses it."""

    def __init__(self, path: Path, kept: Kept | None) -> None:
        self.path = path
        """A directory, empty or with what the last use left."""
        self.fresh = kept is None
        """Nothing is in it that could be kept."""
        self.identity = path.name
        """The same as long as what is in the folder goes on from what was in it."""
        self.whole = False
        """To be set when it holds what it should: it is kept then."""


class Contexts:
    """The store; owns ``root``. Nothing is read before it is first used."""

    def __init__(self, root: Path, *, limit_bytes: int = LIMIT_BYTES, limit_count: int = LIMIT_COUNT) -> None:
        self._root = root
        self._limit_bytes = limit_bytes
        self._limit_count = limit_count
        self._idle: dict[str, Kept] = {}
        """By their names, the least recently used first."""
        self._releases: set[asyncio.Task[None]] = set()
        self._opened = False
        self._opening = asyncio.Lock()

    async def _open(self) -> None:
        async with self._opening:
            if not self._opened:
                self._idle = {kept.name: kept for kept in await asyncio.to_thread(self._restore)}
                self._opened = True

    @asynccontextmanager
    async def use(self, key: str, description: str = "") -> AsyncIterator[Folder]:
        """A folder of which nobody else knows meanwhile: another use of the same ``key`` gets another one. It is kept when it was
        ``whole`` in the end and the key is not "". Raises OSError."""
        await self._open()
        kept = self._take(key)
        folder = Folder(self._root / (kept.name if kept else secrets.token_hex(8)), kept)
        try:
            await asyncio.to_thread(self._prepare, folder)
            yield folder
        finally:
            # A folder that is let go of is either put back or removed, also when whoever used it was cancelled.
            release = asyncio.create_task(self._release(folder, key, kept, description))
            self._releases.add(release)
            release.add_done_callback(self._releases.discard)
            await asyncio.shield(release)

    async def entries(self) -> list[Kept]:
        """Those nobody uses, the least recently used first."""
        await self._open()
        return [*self._idle.values()]

    async def remove(self, names: Iterable[str]) -> None:
        """Those of them that nobody uses. Raises OSError."""
        await self._open()
        gone = [name for name in names if self._idle.pop(name, None)]
        await asyncio.to_thread(self._remove, gone)

    async def close(self) -> None:
        """Writes all to the disk, so that the next boot finds it."""
        await asyncio.gather(*self._releases, return_exceptions=True)
        if self._opened:
            await asyncio.to_thread(self._sync)

    # -- on the event loop

    def _take(self, key: str) -> Kept | None:
        for kept in reversed([*self._idle.values()]) if key else ():
            if kept.key == key:
                return self._idle.pop(kept.name)
        return None

    async def _release(self, folder: Folder, key: str, kept: Kept | None, description: str) -> None:
        name = folder.path.name
        try:
            if folder.whole and key:
                now = time.time_ns()
                size = await asyncio.to_thread(tree_size, folder.path)
                created, uses = (kept.created_ns, kept.uses) if kept else (now, 0)
                put_back = Kept(name, key, description, size, created, now, uses + 1)
                await asyncio.to_thread(self._note, put_back)
                self._idle[name] = put_back
                gone = self._surplus()
            else:
                gone = [name]
            await asyncio.to_thread(self._remove, gone)
        except OSError:
            log.exception("a build context cannot be kept")

    def _surplus(self) -> list[str]:
        """Takes out as many as are too many."""
        total = sum(kept.size for kept in self._idle.values())
        gone = []
        for name, kept in [*self._idle.items()]:
            if total <= self._limit_bytes and len(self._idle) <= self._limit_count:
                break
            total -= kept.size
            del self._idle[name]
            gone.append(name)
        return gone

    # -- in threads

    def _prepare(self, folder: Folder) -> None:
        self._note_path(folder.path.name).unlink(missing_ok=True)
        folder.path.mkdir(mode=0o700, exist_ok=not folder.fresh)

    def _note_path(self, name: str) -> Path:
        return self._root / f"{name}.json"

    def _note(self, kept: Kept) -> None:
        path = self._note_path(kept.name)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(vars(kept)))
        draft.rename(path)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._note_path(name).unlink(missing_ok=True)
            remove_tree(self._root / name)

    def _restore(self) -> list[Kept]:
        """What an earlier engine left; what cannot be trusted is removed."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        boot = _BOOT_ID.read_text().strip()
        trusted = (self._root / _SYNCED).exists() or _read(self._root / _BOOT) == boot
        found = []
        for path in [*self._root.iterdir()]:
            if path.name in (_BOOT, _SYNCED):
                continue
            kept = _kept(self._note_path(path.name)) if trusted and path.is_dir() else None
            if kept is not None and kept.name == path.name:
                found.append(kept)
            elif path.suffix != ".json" or not trusted or not path.with_suffix("").is_dir():
                remove_tree(path)
        (self._root / _BOOT).write_text(boot)
        sync(self._root)  # before what follows is trusted no more
        (self._root / _SYNCED).unlink(missing_ok=True)
        sync(self._root)
        return sorted(found, key=lambda kept: kept.used_ns)

    def _sync(self) -> None:
        fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync_file_system(fd)
        finally:
            os.close(fd)
        (self._root / _SYNCED).write_text("")
        sync(self._root)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text()
    return ""


def _kept(path: Path) -> Kept | None:
    try:
        document = json.loads(path.read_text())
        found = Kept(**document)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    numbers = (found.size, found.created_ns, found.used_ns, found.uses)
    texts = (found.key, found.description)
    good = all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers)
    return found if good else None
