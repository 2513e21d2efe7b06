"""What steps have made before: the build cache, by keys that say what a step does and to what.

A key is a digest over the step's words, what it runs on and what it is given, files by their contents; so steps of equal keys
have equal results, whichever build they are of.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from coved.build.cache.snapshots import Snapshots
from coved.store.database import Database, Row

_TABLES = (
    """
    CREATE TABLE build_steps (
        key TEXT PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        ref TEXT NOT NULL,
        parent TEXT NOT NULL,
        description TEXT NOT NULL,
        created_ns INTEGER NOT NULL,
        used_ns INTEGER NOT NULL,
        uses INTEGER NOT NULL
    ) STRICT;
    """,
)


_KNOWN_MAX = 2000
_ID = 25
"""Characters, as BuildKit's ids have them."""


@dataclass(frozen=True)
class Step:
    """A step that was carried out. ``ref`` is the snapshot of what it changed, "" for nothing; times are since the epoch."""

    key: str
    id: str
    """Stands for the result in the keys of what comes after it: a command that is run anew makes another one."""
    ref: str
    parent: str
    """What stood for the file system before it."""
    description: str
    created_ns: int
    used_ns: int
    uses: int
    imported: bool = False
    """An image tells of it: ``key`` and ``id`` are its maker's words, and of ``ref``, a layer, only its content is certain."""


def key(*parts: object) -> str:
    """The digest of what a step is; ``parts`` are what JSON can say."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Steps:
    """Belongs to the event loop."""

    def __init__(self, database: Database, snapshots: Snapshots) -> None:
        self._database = database
        self._snapshots = snapshots
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._held: Counter[str] = Counter()
        self._known: dict[str, Step] = {}
        """As the table has them, but for when they were used."""
        self._replaced: set[str] = set()
        """Snapshots that are no step's any more, and that somebody still held."""
        self._used: dict[str, tuple[int, int]] = {}
        """Of keys that were found since the table was told: when for the last time, and how often."""
        database.migrate("build_steps", _TABLES)

    def start(self) -> None:
        """Removes what an engine was killed over: steps whose snapshots are gone, and snapshots that are no step's."""
        noted = {row["ref"] for row in self._database.query("SELECT ref FROM build_steps WHERE ref != ''")}
        if gone := [ref for ref in noted if ref not in self._snapshots]:
            with self._database.transaction():
                for ref in gone:
                    self._database.execute("DELETE FROM build_steps WHERE ref = ?", (ref,))
        if left := [ref for ref in self._snapshots if ref not in noted]:
            self._snapshots.remove_soon(left)

    @contextlib.asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Whoever else carries out the same step waits, and then finds its result."""
        lock = self._turns.setdefault(key, asyncio.Lock())
        async with lock:
            yield

    def find(self, key: str) -> Step | None:
        step = self._known.get(key)
        if step is None:
            row = self._database.query_one("SELECT * FROM build_steps WHERE key = ?", (key,))
            if row is None:
                return None
            step = _step(row)
            self._know(step)
        return step if not step.ref or step.ref in self._snapshots else None

    def used(self, keys: Sequence[str]) -> None:
        """A build has found these. It is in the table with the next look at all: who dies before has lost little."""
        now = time.time_ns()
        for one in keys:
            _, uses = self._used.get(one, (0, 0))
            self._used[one] = now, uses + 1

    def note_uses(self) -> None:
        """Tells the table what was ``used``."""
        if not self._used:
            return
        with self._database.transaction(lasting=False):
            for one, (last, uses) in self._used.items():
                sql = "UPDATE build_steps SET used_ns = ?, uses = uses + ? WHERE key = ?"
                self._database.execute(sql, (last, uses, one))
        self._used.clear()

    def record(
        self, key: str, ref: str, parent: str, description: str, *, same: bool, hold: Callable[[str], None]
    ) -> Step:
        """Notes a step's result. What it made before goes, as soon as nobody holds that.

        Args:
            same: it is what the step always makes (files that are copied); other steps are another's parent each time.
            hold: called with ``ref`` before anybody else can find, and remove, the result; see ``holding``.
        """
        now = time.time_ns()
        step = Step(key, key[:_ID] if same else secrets.token_hex(_ID)[:_ID], ref, parent, description, now, now, 1)

        def recorded() -> None:
            self._know(step)
            hold(ref)
            if before is not None and before["ref"] not in ("", ref):
                self._replaced.add(before["ref"])
                self._remove_replaced()

        with self._database.transaction(lasting=False):
            before = self._database.query_one("SELECT ref FROM build_steps WHERE key = ?", (key,))
            self._database.execute(
                "INSERT OR REPLACE INTO build_steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, step.id, ref, parent, description, now, now, 1),
            )
            self._database.after_commit(recorded)
        return step

    def _remove_replaced(self) -> None:
        if free := {ref for ref in self._replaced if not self.is_held(ref)}:
            self._replaced -= free
            self._snapshots.remove_soon(free)

    def _know(self, step: Step) -> None:
        self._known[step.key] = step
        if len(self._known) > _KNOWN_MAX:
            del self._known[next(iter(self._known))]

    def all(self) -> list[Step]:
        self.note_uses()
        return [_step(row) for row in self._database.query("SELECT * FROM build_steps ORDER BY used_ns")]

    def forget(self, keys: Sequence[str]) -> None:
        with self._database.transaction():
            for one in keys:
                self._database.execute("DELETE FROM build_steps WHERE key = ?", (one,))
                self._known.pop(one, None)

    # -- what a build that goes on needs must stay

    @contextlib.contextmanager
    def holding(self) -> Iterator[Callable[[str], None]]:
        """Gives what a build calls for each ref that it needs until the context is left."""
        held: list[str] = []
        with self._snapshots.holding() as keep:

            def hold(ref: str) -> None:
                if ref:
                    keep(ref)
                    held.append(ref)
                    self._held[ref] += 1

            try:
                yield hold
            finally:
                self._held.subtract(held)
                self._held = +self._held
                self._remove_replaced()

    def is_held(self, ref: str) -> bool:
        return self._held[ref] > 0


def _step(row: Row) -> Step:
    return Step(
        row["key"],
        row["id"],
        row["ref"],
        row["parent"],
        row["description"],
        row["created_ns"],
        row["used_ns"],
        row["uses"],
    )
