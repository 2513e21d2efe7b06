"""The build cache: what it holds, and how it is kept from growing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass

from coved.build.cache import filters as filtering
from coved.build.cache.contexts import Contexts
from coved.build.cache.snapshots import Snapshots
from coved.build.cache.steps import Step, Steps
from coved.build.remote.sources import FILE, GIT, Stores
from coved.build.run.execution import Executor
from coved.errors import EngineError

LOCAL = "source.local"
MOUNT = "exec.cachemount"
KEEP_PART = 0.1
"""Of the disk; a build makes more room again when the cache has more."""
KEEP_MIN = 2 << 30
"""Bytes that it may have on the smallest disk."""
BOUND_S = 1.0
"""After a build's end the cache is looked through."""
EMPTY_MAX = 10_000
"""Steps that have changed nothing; each is a row."""

log = logging.getLogger(__name__)


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

    @property
    def mutable(self) -> bool:
        return self.kind != "regular"

    @property
    def fields(self) -> dict[str, str]:
        """What filters ask for."""
        parents = ";".join(self.parents)
        flags = {
            "inuse": self.in_use,
            "mutable": self.mutable,
            "immutable": not self.mutable,
            "shared": self.shared,
            "private": not self.shared,
        }
        return {
            "id": self.id,
            "parent": parents,
            "parents": parents,
            "description": self.description,
            "type": self.kind,
            **{name: "true" if there else "" for name, there in flags.items()},
        }


@dataclass(frozen=True)
class Keep:
    """How much may stay, in bytes; 0 says nothing."""

    reserved: int = 0
    """So much is never removed."""
    max_used: int = 0
    """No more than this stays, but for what is reserved."""
    min_free: int = 0
    """The disk should have so much room in the end."""

    def limit(self, total: int, free: int) -> int | None:
        """How much of ``total`` stays, as BuildKit has it; None when all of it may go.

        Args:
            free: what the disk has now.
        """
        if not (self.reserved or self.max_used or self.min_free):
            return None
        # Who asks but for what is reserved, asks for all the rest to go.
        limit = self.max_used or (total if self.min_free else 0)
        if (missing := self.min_free - free) > 0:
            limit = min(limit, total - missing)
        return max(limit, self.reserved)


_NOTHING = Keep()


class Upkeep:
    """Belongs to the event loop."""

    def __init__(
        self, steps: Steps, snapshots: Snapshots, executor: Executor, contexts: Contexts, stores: Stores
    ) -> None:
        self._steps = steps
        self._snapshots = snapshots
        self._caches = executor.caches
        self._contexts = contexts
        self._bounding: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stores = stores

    async def entries(self, filters: Sequence[filtering.Filter] = ()) -> list[Entry]:
        """The least recently used first."""
        return [one for one in await self._entries() if filtering.matches(filters, one.fields)]

    async def _entries(self) -> list[Entry]:
        await self._caches.measure()
        kept_contexts = await self._contexts.entries()
        fetched = await self._stores.entries()
        # Nothing is awaited from here on: what is in use is so when this returns.
        steps = self._steps.all()
        ids = {one.id for one in steps}
        found = [self._entry(one, ids) for one in steps]
        for cache in self._caches.all():
            found.append(
                Entry(
                    cache.id, MOUNT, f"cached mount {cache.target}", (), cache.size, cache.in_use, False,
                    cache.created_ns, cache.used_ns, cache.uses,
                )
            )  # fmt: skip
        found += [
            Entry(
                kept.name, LOCAL, f"local source for {kept.description}", (), kept.size, False, False, kept.created_ns,
                kept.used_ns, kept.uses,
            )
            for kept in kept_contexts
        ]  # fmt: skip
        found += [
            Entry(
                kept.id, kind, kept.description, (), kept.size, kept.in_use, False, kept.created_ns, kept.used_ns, kept.uses
            )
            for kind, kept in fetched
        ]  # fmt: skip
        # What one build has used goes from its end, for nothing is found without what it was made on.
        return sorted(found, key=lambda one: (one.used_ns, -one.created_ns))

    def _entry(self, step: Step, ids: Set[str]) -> Entry:
        size, shared = 0, False
        if step.ref:
            with contextlib.suppress(EngineError):  # it is just being removed
                size, shared = self._snapshots.size(step.ref), bool(self._snapshots.layer_of(step.ref))
        parents = (step.parent,) if step.parent in ids else ()
        return Entry(
            step.id, "regular", step.description, parents, size, self._steps.is_held(step.ref), shared, step.created_ns,
            step.used_ns, step.uses, step.key,
        )  # fmt: skip

    async def prune(
        self, *, everything: bool = False, unused_for_s: float = 0, keep: Keep = _NOTHING,
        filters: Sequence[filtering.Filter] = (),
    ) -> list[Entry]:  # fmt: skip
        """Removes what no build uses now, the least recently used first, and gives it.

        Args:
            everything: also what an image has, and the folders of cache mounts when ``filters`` do not ask for them.
            unused_for_s: only what was not used for so many seconds.
        """
        now = time.time_ns()

        def may_go(one: Entry) -> bool:
            if now - one.used_ns < unused_for_s * 1e9 or not filtering.matches(filters, one.fields):
                return False
            return everything or not (one.shared or (one.kind == MOUNT and not filters))

        entries = await self.entries()
        free = shutil.disk_usage(self._snapshots.directory).free
        return await self._prune(entries, may_go, keep.limit(sum(one.size for one in entries), free))

    def bound(self) -> None:
        """Soon removes what has not been used for longest when there is more than the disk should hold: once for many builds, who
        need the computer more than that."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BOUND_S, self._begin_to_bound)

    def _begin_to_bound(self) -> None:
        self._timer = None
        if self._bounding is None or self._bounding.done():
            self._bounding = asyncio.get_running_loop().create_task(self._bound())

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._bounding is not None:
            self._bounding.cancel()
            await asyncio.gather(self._bounding, return_exceptions=True)

    async def _bound(self) -> None:
        try:
            total = shutil.disk_usage(self._snapshots.directory).total
            entries = await self.entries()
            # What images have as well would free nothing.
            own = [one for one in entries if not one.shared]
            await self._prune(own, lambda one: True, max(KEEP_MIN, int(total * KEEP_PART)))
            if len(_empty(entries)) > EMPTY_MAX:
                rows = _empty(await self.entries())
                await self._prune(rows[: max(0, len(rows) - EMPTY_MAX)], lambda one: True, None)
        except (EngineError, OSError) as error:
            log.error("the build cache could not be kept small: %s", error)

    async def _prune(self, entries: Sequence[Entry], may_go: Callable[[Entry], bool], limit: int | None) -> list[Entry]:
        """``limit``: bytes that may stay; None when all may go."""
        left = sum(one.size for one in entries)
        going = []
        for one in entries:
            if limit is not None and left <= limit:
                break
            if not one.in_use and may_go(one):
                going.append(one)
                left -= one.size
        if going:
            await self._remove(going)
        return going

    async def _remove(self, entries: Iterable[Entry]) -> None:
        steps = {one.key: one for one in self._steps.all()}
        gone = [one for one in entries if one.key]
        self._steps.forget([one.key for one in gone])
        remaining = {one.ref for one in self._steps.all()}
        await self._snapshots.remove({steps[one.key].ref for one in gone if one.key in steps} - remaining - {""})
        await self._caches.remove([one.id for one in entries if one.kind == MOUNT])
        await self._contexts.remove([one.id for one in entries if one.kind == LOCAL])
        await self._stores.remove([one.id for one in entries if one.kind in (GIT, FILE) and not one.key])


def _empty(entries: Iterable[Entry]) -> list[Entry]:
    return [one for one in entries if one.key and not one.size]
