"""The folders of RUN --mount=type=cache: they stay from build to build, and no layer has what is in them.

Which folder a mount gets depends on who else has it now (Dockerfile reference, "RUN --mount=type=cache", sharing). A folder is
known by its mount's id and by what it began with: another seed, owner or mode makes it another one, as with BuildKit.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from coved.build.cache.snapshots import Snapshots
from coved.build.orders import CacheMount, Files
from coved.errors import EngineError
from coved.finishing import to_the_end
from coved.runtime import view
from coved.runtime.paths import open_in_root
from coved.store.database import Database
from coved.store.trees import copy_tree, remove_tree, tree_size

_SCHEMA = (
    """
    CREATE TABLE build_cache_mounts (
        id TEXT PRIMARY KEY,
        key TEXT NOT NULL,
        target TEXT NOT NULL,
        size INTEGER NOT NULL,
        created_ns INTEGER NOT NULL,
        used_ns INTEGER NOT NULL,
        uses INTEGER NOT NULL
    ) STRICT;
    """,
)


@dataclass(frozen=True)
class CacheFolder:
    """``size`` in bytes, as it was measured last; times in nanoseconds since the epoch."""

    id: str
    key: str
    target: str
    """Where it was mounted at first."""
    size: int
    created_ns: int
    used_ns: int
    uses: int
    in_use: bool = False


@dataclass
class _Use:
    """Of a folder, by those who have it mounted now."""

    count: int = 0
    alone: bool = False


class CacheMounts:
    """Belongs to the event loop; blocking work is done in threads. Its folders lie in ``cache-mounts`` of the snapshots' own."""

    def __init__(self, database: Database, snapshots: Snapshots) -> None:
        self._database = database
        self._snapshots = snapshots
        self._directory = snapshots.directory / "cache-mounts"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        database.migrate("build cache mounts", _SCHEMA)
        self._folders: dict[str, CacheFolder] = {
            row["id"]: CacheFolder(**row) for row in database.query("SELECT * FROM build_cache_mounts")
        }
        self._uses: dict[str, _Use] = {}
        self._unmeasured: set[str] = {*self._folders}  # an engine may have been killed while they were in use
        self._making: dict[str, asyncio.Lock] = {}
        self._changed = asyncio.Event()
        """Set, and another, when somebody has given a folder back, or one has been made."""

    async def start(self) -> None:
        """Removes what interrupted work has left."""
        there = {path.name for path in self._directory.iterdir()}
        self._forget([id for id in self._folders if id not in there])
        for name in there - {*self._folders}:
            await asyncio.to_thread(remove_tree, self._directory / name)

    def all(self) -> list[CacheFolder]:
        """Every folder, with its size as ``measure`` has found it."""
        return [replace(one, in_use=id in self._uses) for id, one in self._folders.items()]

    async def measure(self) -> None:
        """Brings the sizes up to date."""
        for id in [*self._unmeasured & {*self._folders}]:
            self._unmeasured.discard(id)
            with contextlib.suppress(FileNotFoundError):  # it has just been removed
                size = await asyncio.to_thread(tree_size, self._directory / id)
                if id in self._folders:
                    self._note(replace(self._folders[id], size=size))
        # Those in use grow, and are measured again.
        self._unmeasured.update(self._uses)

    async def remove(self, ids: Collection[str]) -> list[str]:
        """Removes folders that nobody uses, and gives the ids of those that went."""
        going = [id for id in dict.fromkeys(ids) if id in self._folders and id not in self._uses]
        self._forget(going)
        for id in going:
            await to_the_end(asyncio.to_thread(remove_tree, self._directory / id))
        return going

    @contextlib.asynccontextmanager
    async def taken(self, mounts: Sequence[CacheMount]) -> AsyncIterator[Mapping[int, Path]]:
        """The folders of one command's mounts, each by its position among ``mounts``; those with the same id are the same.

        Waits for folders that are locked, always in the same order, so that no two commands wait for each other.
        """
        wanted: dict[str, list[int]] = {}
        for position, mount in enumerate(mounts):
            wanted.setdefault(_key(mount), []).append(position)
        taken: list[str] = []
        result: dict[int, Path] = {}
        try:
            for key in sorted(wanted):
                positions = wanted[key]
                id = await self._take(key, mounts[positions[0]], taken)
                result.update(dict.fromkeys(positions, self._directory / id))
            yield result
        finally:
            self._give_back(taken)

    # -- inside

    async def _take(self, key: str, mount: CacheMount, taken: list[str]) -> str:
        """The folder's id, which is in ``taken`` as soon as it is."""
        while True:
            folders = [id for id, one in self._folders.items() if one.key == key]
            idle = [id for id in folders if id not in self._uses]
            shared = [id for id in folders if id in self._uses and not self._uses[id].alone]
            if mount.sharing == "shared" and shared:
                id = shared[0]
            elif idle:
                id = idle[0]
            elif mount.sharing == "locked" and (folders or key in self._making):
                await self._changed.wait()
                continue
            elif key in self._making:  # and it may be shared then
                async with self._making[key]:
                    continue
            else:
                await self._make(key, mount)
                continue
            use = self._uses.setdefault(id, _Use())
            use.count += 1
            use.alone = mount.sharing != "shared"
            taken.append(id)
            return id

    def _give_back(self, ids: Iterable[str]) -> None:
        now = time.time_ns()
        for id in ids:
            self._uses[id].count -= 1
            if not self._uses[id].count:
                del self._uses[id]
            self._unmeasured.add(id)
            if id in self._folders:
                folder = self._folders[id]
                self._note(replace(folder, used_ns=now, uses=folder.uses + 1))
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _make(self, key: str, mount: CacheMount) -> None:
        """A folder that nobody uses yet. Others who want one of this key wait, and then look again."""
        lock = self._making.setdefault(key, asyncio.Lock())
        async with lock:
            try:
                id = secrets.token_hex(16)
                now = time.time_ns()
                try:
                    await to_the_end(asyncio.to_thread(self._fill, self._directory / id, mount))
                    with self._database.transaction(lasting=False):
                        row = (id, key, mount.target, 0, now, now, 0)
                        self._database.execute("INSERT INTO build_cache_mounts VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                except BaseException:
                    await to_the_end(asyncio.to_thread(remove_tree, self._directory / id))
                    raise
                self._folders[id] = CacheFolder(*row)
                self._unmeasured.add(id)
            finally:
                self._making.pop(key, None)
                self._wake()

    def _note(self, folder: CacheFolder) -> None:
        with self._database.transaction(lasting=False):
            self._database.execute(
                "UPDATE build_cache_mounts SET size = ?, used_ns = ?, uses = ? WHERE id = ?",
                (folder.size, folder.used_ns, folder.uses, folder.id),
            )
        self._folders[folder.id] = folder

    def _forget(self, ids: Collection[str]) -> None:
        with self._database.transaction():
            for id in ids:
                self._database.execute("DELETE FROM build_cache_mounts WHERE id = ?", (id,))
        for id in ids:
            del self._folders[id]

    # -- in threads

    def _fill(self, folder: Path, mount: CacheMount) -> None:
        folder.mkdir(mode=0o700)
        if mount.seed is not None:
            self._seed(folder, mount.seed, mount.source)
        else:
            os.chown(folder, mount.uid, mount.gid)
            folder.chmod(mount.mode)

    def _seed(self, folder: Path, seed: Files, source: str) -> None:
        """What is at ``source``, if that is a folder. Raises EngineError in BuildKit's words when there is nothing."""
        layers = [seed.directory] if seed.directory is not None else self._snapshots.lower_dirs(seed.refs)
        with view.of_image(layers) as root:
            try:
                found = open_in_root(root, source, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                raise EngineError(f'failed to compute cache key: "{source}": {error.strerror}') from None
            try:
                copy_tree(found, folder)
            finally:
                os.close(found)


def _key(mount: CacheMount) -> str:
    """Ids may have any characters."""
    if mount.seed is None:
        start = f"{mount.mode:o}:{mount.uid}:{mount.gid}"
    else:
        start = hashlib.sha256(f"{mount.seed_key}\0{mount.source}".encode("utf-8", "surrogateescape")).hexdigest()
    return json.dumps([mount.id, start])
