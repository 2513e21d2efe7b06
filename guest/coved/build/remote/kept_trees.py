"""Directories that are made once for their keys, and kept as long as they are among those used last.

Beside what is made, each has a note of what it is (``note``), and as many bytes in ``uses`` as it was used. What goes by a key's
name has been written to the disk before: it is whole also when the power is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path

from coved.build.remote.holdings import Holding
from coved.finishing import to_the_end
from coved.store.trees import remove_tree, sync_file_system, tree_size

_NOTE = "note"
_USES = "uses"


class KeptTrees:
    """Belongs to the event loop; blocking work is done in threads.

    Args:
        directory: this object's alone; what is in it may be removed while no engine runs.
        limit: so many are kept, beside those in use.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory = directory
        self._limit = limit
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._used: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def held(
        self, key: str, make: Callable[[Path], Awaitable[object]], description: str = ""
    ) -> AsyncIterator[Path]:
        """The directory for a key, a file name; it stays as long as this is open.

        Args:
            make: fills a new directory, in whose place it is put when that has gone well.
            description: of what it makes, for people.

        Raises what ``make`` raises, and OSError.
        """
        self._used[key] += 1
        try:
            path = self._directory / key
            lock = self._locks.setdefault(key, asyncio.Lock())
            async with lock:
                if not await asyncio.to_thread(_is_there, path):
                    await self._made(path, make, description)
            yield path
        finally:
            self._used[key] -= 1
            self._used = +self._used
            await to_the_end(self._trim())

    async def entries(self) -> list[Holding]:
        """What is kept. Raises OSError."""
        found = await asyncio.to_thread(self._found)
        return [replace(one, in_use=one.id in self._used) for one in found]

    async def remove(self, names: Iterable[str]) -> None:
        """Those of them that nobody uses, and what a kill has left."""
        left = await asyncio.to_thread(self._unfinished)
        await to_the_end(self._remove([*names, *left]))

    async def _made(self, path: Path, make: Callable[[Path], Awaitable[object]], description: str) -> None:
        new = self._directory / f".{secrets.token_hex(8)}"
        self._used[new.name] += 1
        try:
            await asyncio.to_thread(new.mkdir, mode=0o700, parents=True)
            await make(new)
            await asyncio.to_thread(_settle, new, path, description)
        finally:
            await to_the_end(asyncio.to_thread(remove_tree, new))
            del self._used[new.name]

    async def _trim(self) -> None:
        await self._remove(await asyncio.to_thread(self._too_many))

    async def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._used:
                continue
            # Here, where nobody can begin to use it at the same time; and under another name it is not found half gone.
            gone = self._directory / f".{secrets.token_hex(8)}"
            with contextlib.suppress(OSError):
                (self._directory / name).rename(gone)
                await asyncio.to_thread(remove_tree, gone)

    def _too_many(self) -> list[str]:
        with contextlib.suppress(OSError):
            paths = sorted(self._directory.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
            return [path.name for path in paths[self._limit :]] + self._unfinished()
        return []

    def _unfinished(self) -> list[str]:
        with contextlib.suppress(OSError):
            return [path.name for path in self._directory.iterdir() if path.name[0] == "." or not _holding(path)]
        return []

    def _found(self) -> list[Holding]:
        with contextlib.suppress(FileNotFoundError):
            return [one for path in self._directory.iterdir() if path.name[0] != "." and (one := _holding(path))]
        return []


def _settle(new: Path, path: Path, description: str) -> None:
    note = {"description": description, "size": tree_size(new), "created_ns": time.time_ns()}
    (new / _NOTE).write_text(json.dumps(note))
    _count(new)
    fd = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file_system(fd)
    finally:
        os.close(fd)
    new.rename(path)


def _is_there(path: Path) -> bool:
    """Who was used last is the last to go."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    with contextlib.suppress(OSError):  # it serves on a full disk as well
        _count(path)
    return True


def _count(path: Path) -> None:
    """One more use. A byte that is appended needs no care that what is read before it is not lost."""
    with (path / _USES).open("ab") as file:
        file.write(b".")


def _holding(path: Path) -> Holding | None:
    """None when it goes just now, or is nothing that this module has made."""
    try:
        used = path.stat().st_mtime_ns
        note = json.loads((path / _NOTE).read_text())
        uses = (path / _USES).stat().st_size
        return Holding(path.name, note["description"], note["size"], note["created_ns"], used, uses, in_use=False)
    except (OSError, ValueError, KeyError, TypeError):
        return None
