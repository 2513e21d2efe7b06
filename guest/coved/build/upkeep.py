"""The build cache: what it holds, and how it is kept from growing."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass

from coved.build.contexts import Contexts
from coved.build.execution import Executor
from coved.build.remote import FILE, GIT, Stores
from coved.build.snapshots import Snapshots
from coved.build.steps import Step, Steps
from coved.errors import EngineError

LOCAL = "source.local"
KEEP_PART = 0.1
"""Of the disk; a build makes more room again when the cache has more."""
KEEP_MIN = 2 << 30
"""Bytes that it may have on the smallest disk."""


@dataclass(frozen=True)
class Entry:
    """``BuildCache`` of the API. ``kind`` is "regular" (a step's result, which has a ``key``, or a file of the web),
    "exec.cachemount", "source.local" (what a client has sent) or "source.git.checkout"; sizes in bytes."""

    id: str
    kind: str
    description: str
    parents: tuple[str, ...]
    size: int
    in_use: bool
    shared: bool
    created_ns: int
    used_ns: int
    uses: int
    key: str = ""


class Upkeep:
    """Belongs to the event loop."""

    def __init__(
        self, steps: Steps, snapshots: Snapshots, executor: Executor, contexts: Contexts, stores: Stores
    ) -> None:
        self._steps = steps
        self._snapshots = snapshots
        self._caches = executor.caches
        self._contexts = contexts
        self._stores = stores

    async def start(self) -> None:
        """Removes snapshots whose steps were not noted before the engine died."""
        noted = {step.ref for step in self._steps.all()}
        await self._snapshots.remove([ref for ref in self._snapshots if ref not in noted])

    async def entries(self) -> list[Entry]:
        """The least recently used first."""
        await self._caches.measure()
        steps = self._steps.all()
        ids = {one.key: one.id for one in steps}
        found = [self._entry(one, ids) for one in steps]
        for cache in self._caches.all():
            found.append(
                Entry(
                    cache.id, "exec.cachemount", f"cached mount {cache.target}", (), cache.size, cache.in_use, False,
                    cache.created_ns, cache.used_ns, cache.uses,
                )
            )  # fmt: skip
        found += [
            Entry(
                kept.name, LOCAL, f"local source for {kept.description}", (), kept.size, False, False, kept.created_ns,
                kept.used_ns, kept.uses,
            )
            for kept in await self._contexts.entries()
        ]  # fmt: skip
        found += [
            Entry(
                kept.id, kind, kept.description, (), kept.size, kept.in_use, False, kept.created_ns, kept.used_ns, kept.uses
            )
            for kind, kept in await self._stores.entries()
        ]  # fmt: skip
        return sorted(found, key=lambda one: one.used_ns)

    def _entry(self, step: Step, ids: dict[str, str]) -> Entry:
        size, shared = 0, False
        if step.ref:
            with contextlib.suppress(EngineError):  # it is just being removed
                size, shared = self._snapshots.size(step.ref), bool(self._snapshots.layer_of(step.ref))
        parents = (ids[step.parent],) if step.parent in ids else ()
        return Entry(
            step.id, "regular", step.description, parents, size, self._steps.is_held(step.ref), shared, step.created_ns,
            step.used_ns, step.uses, step.key,
        )  # fmt: skip

    async def prune(
        self, *, everything: bool = False, unused_for_s: float = 0, keep_bytes: int = 0, ids: Iterable[str] = ()
    ) -> list[Entry]:
        """Removes what no build uses now, the least recently used first, and gives it.

        Args:
            everything: also what an image has, and the folders of cache mounts.
            unused_for_s: only what was not used for so many seconds.
            keep_bytes: stops when no more than this is left.
            ids: only these; none means all.
        """
        now, wanted = time.time_ns(), set(ids)
        entries = await self.entries()
        left = sum(one.size for one in entries)
        going = []
        for one in entries:
            if one.in_use or (wanted and one.id not in wanted) or now - one.used_ns < unused_for_s * 1e9:
                continue
            if not everything and (one.shared or one.kind not in ("regular", LOCAL, GIT)):
                continue
            if keep_bytes and left <= keep_bytes:
                break
            going.append(one)
            left -= one.size
        await self._remove(going)
        return going

    async def bound(self) -> None:
        """Removes what has not been used for longest when there is more than the disk should hold."""
        total = shutil.disk_usage(self._snapshots.directory).total
        keep = max(KEEP_MIN, int(total * KEEP_PART))
        entries = await self.entries()
        if sum(one.size for one in entries) > keep:
            await self.prune(everything=True, keep_bytes=keep)

    async def _remove(self, entries: Iterable[Entry]) -> None:
        steps = {one.key: one for one in self._steps.all()}
        gone = [one for one in entries if one.key]
        self._steps.forget([one.key for one in gone])
        remaining = {one.ref for one in self._steps.all()}
        await self._snapshots.remove({steps[one.key].ref for one in gone if one.key in steps} - remaining - {""})
        await self._caches.remove([one.id for one in entries if one.kind == "exec.cachemount"])
        await self._contexts.remove([one.id for one in entries if one.kind == LOCAL])
        await self._stores.remove([one.id for one in entries if one.kind in (GIT, FILE) and not one.key])
