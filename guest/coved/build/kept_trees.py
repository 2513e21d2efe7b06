"""Directories that are made once for their keys, and kept as long as they are among those used last.

What goes by a key's name has been written to the disk before: it is whole also when the power is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from coved.finishing import to_the_end
from coved.images.layers import sync_file_system
from coved.store.trees import remove_tree


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
    async def held(self, key: str, make: Callable[[Path], Awaitable[object]]) -> AsyncIterator[Path]:
        """The directory for a key, a file name; it stays as long as this is open.

        Args:
            make: fills a new directory, in whose place it is put when that has gone well.

        Raises what ``make`` raises, and OSError.
        """
        self._used[key] += 1
        try:
            path = self._directory / key
            lock = self._locks.setdefault(key, asyncio.Lock())
            async with lock:
                if not await asyncio.to_thread(_is_there, path):
                    await self._made(path, make)
            yield path
        finally:
            self._used[key] -= 1
            self._used = +self._used
            await to_the_end(self._trim())

    async def _made(self, path: Path, make: Callable[[Path], Awaitable[object]]) -> None:
        new = self._directory / f".{secrets.token_hex(8)}"
        self._used[new.name] += 1
        try:
            await asyncio.to_thread(new.mkdir, mode=0o700, parents=True)
            await make(new)
            await asyncio.to_thread(_settle, new, path)
        finally:
            await to_the_end(asyncio.to_thread(remove_tree, new))
            del self._used[new.name]

    async def _trim(self) -> None:
        for name in await asyncio.to_thread(self._too_many):
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
            return [path.name for path in paths[self._limit :]] + [path.name for path in paths if path.name[0] == "."]
        return []


def _settle(new: Path, path: Path) -> None:
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
    return True
