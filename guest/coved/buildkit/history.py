"""What was built: builds that are under way, and those that have ended, as far back as they are kept."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coved.build.request import Result
from coved.buildkit import history_files, records
from coved.buildkit.history_files import Files, Kept
from coved.buildkit.messages import (
    HISTORY_COMPLETE,
    HISTORY_DELETED,
    HISTORY_STARTED,
    BuildHistoryRecord,
    Descriptor,
    StatusResponse,
)
from coved.buildkit.status import StatusLog
from coved.errors import Conflict, NotFound
from coved.grpc.status import Status

log = logging.getLogger(__name__)

KEPT_COUNT = 50
KEPT_S = 48 * 3600
"""A record goes when it is beyond both, as with BuildKit. One that is pinned stays."""
MOST_COUNT = 500
MOST_BYTES = 128 << 20
"""Of all of them on the disk, however new they are; the oldest go."""
LOG_BYTES = 8 << 20
"""Of one build's output that is kept, the end of it."""
ENDING_S = 5.0
LOG_TYPE = "application/vnd.buildkit.status.v0"


@dataclass
class Entry:
    """One build. ``log`` is there until the file is."""

    kept: Kept
    log: StatusLog | None
    size: int = 0
    writing: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def record(self) -> BuildHistoryRecord:
        assert self.kept.record is not None
        return self.kept.record


class History:
    """Belongs to the event loop; ``folder`` is its own. Nothing is read before it is first asked."""

    def __init__(self, folder: Path) -> None:
        self._files = Files(folder)
        self._entries: dict[str, Entry] = {}
        """The oldest first."""
        self._opening = asyncio.Lock()
        self._opened = False
        self._listeners: set[_Listener] = set()
        self._changing = asyncio.Lock()
        """Held by whoever changes files: one at a time."""
        self._all_ended = asyncio.Event()
        self._all_ended.set()

    async def _open(self) -> None:
        """Raises OSError; then it is tried again."""
        async with self._opening:
            if self._opened:
                return
            earlier = {}
            for kept, size in await asyncio.to_thread(self._files.read_all):
                assert kept.record is not None
                earlier[kept.record.ref] = Entry(kept, None, size)
            in_order = sorted(earlier.items(), key=lambda each: each[1].record.created_at)
            self._entries = {**dict(in_order), **self._entries}
            self._opened = True

    async def close(self) -> None:
        """What has just ended is kept."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                await self._all_ended.wait()
        await self._written()

    async def _written(self) -> None:
        if writing := [each.writing for each in self._entries.values() if each.writing is not None]:
            await asyncio.wait(writing)

    # -- by builds

    def begin(self, record: BuildHistoryRecord, log: StatusLog, context: str = "") -> Entry:
        entry = Entry(Kept(record, context), log)
        self._entries.pop(record.ref, None)
        self._entries[record.ref] = entry
        self._all_ended.clear()
        log.on_step = lambda: self._told_of(entry)
        self._told_of(entry)
        return entry

    def end(self, entry: Entry, result: Result, error: Status | None) -> None:
        """``error``: why it has failed. Its log has ended."""
        record = entry.record
        record.completed_at = time.time_ns()
        record.exporter_response = records.response(result)
        record.error = error
        assert entry.log is not None
        entry.log.on_step = lambda: None
        _count(record, entry.log)
        entry.writing = asyncio.get_running_loop().create_task(self._write(entry))
        if all(each.record.completed_at for each in self._entries.values()):
            self._all_ended.set()

    async def _write(self, entry: Entry) -> None:
        """The build's client does not wait for it: until it is done the log is in memory."""
        assert entry.log is not None
        messages = entry.log.messages(LOG_BYTES)
        try:
            await self._open()
            packed, entry.record.logs = await asyncio.to_thread(_packed, messages)
            async with self._changing:
                if self._entries.get(entry.record.ref) is not entry:
                    return  # meanwhile it was removed
                entry.size = await asyncio.to_thread(self._files.write, entry.kept, packed)
                entry.log = None
                await self._limit()
        except OSError as error:
            log.warning("build %s is not kept: %s", entry.record.ref, error)
            entry.record.logs = None
            await self._only_unkept(entry)
        finally:
            entry.writing = None
            if self._entries.get(entry.record.ref) is entry:
                self._told_of(entry)

    async def _only_unkept(self, entry: Entry) -> None:
        """It could not be written. It can be asked about as long as it is the last one of which that is so: logs are large."""
        async with self._changing:
            for other in [*self._entries.values()]:
                if other is not entry and other.log is not None and other.record.completed_at and other.writing is None:
                    await self._forget(other)

    async def _limit(self) -> None:
        ended = [each for each in self._entries.values() if each.record.completed_at and not each.record.pinned]
        size = 0
        oldest = time.time_ns() - KEPT_S * 1_000_000_000
        for number, entry in enumerate(reversed(ended)):
            size += entry.size
            old = number >= KEPT_COUNT and entry.record.completed_at < oldest
            if number and (old or number >= MOST_COUNT or size > MOST_BYTES):
                await self._forget(entry)

    # -- for those who look

    async def entries(self) -> list[Entry]:
        """The newest first. What has ended is whole by then."""
        await self._open()
        await self._written()
        return [*reversed(self._entries.values())]

    async def find(self, ref: str) -> Entry | None:
        await self._open()
        return self._entries.get(ref)

    @contextlib.contextmanager
    def listening(self) -> Iterator[AsyncIterator[tuple[int, Entry]]]:
        """What happens from now on, until the context is left: HISTORY_..., and the build. Who is slow misses what is not the last of
        its kind for a build."""
        listener = _Listener()
        self._listeners.add(listener)
        try:
            yield listener.events()
        finally:
            self._listeners.discard(listener)

    async def follow(self, entry: Entry) -> AsyncIterator[StatusResponse]:
        """All that it says, and has said. Raises NotFound."""
        if entry.log is not None:
            async for message in entry.log.follow():
                yield message
            return
        for message in history_files.unpacked(await self.packed_log(entry)):
            yield message

    async def packed_log(self, entry: Entry) -> bytes:
        """Of a build whose record has ``logs``, in the form that they are in. Raises NotFound."""
        try:
            return await asyncio.to_thread(self._files.log, entry.kept)
        except FileNotFoundError:
            raise no_record(entry.record.ref) from None

    async def remove(self, ref: str) -> None:
        """Raises NotFound, Conflict."""
        entry = await self._ended(ref)
        async with self._changing:
            await self._forget(entry)

    async def pin(self, ref: str, *, pinned: bool) -> None:
        """Whether it stays until somebody removes it. Raises NotFound, Conflict, OSError."""
        entry = await self._ended(ref)
        async with self._changing:
            if self._entries.get(ref) is not entry:
                raise no_record(ref)  # meanwhile it was removed
            before, entry.record.pinned = entry.record.pinned, pinned
            try:
                if entry.log is None:
                    await asyncio.to_thread(self._files.rewrite, entry.kept)
            except OSError:
                entry.record.pinned = before
                raise
        self._told_of(entry)

    async def _ended(self, ref: str) -> Entry:
        entry = await self.find(ref)
        if entry is None:
            raise no_record(ref)
        if not entry.record.completed_at:
            raise Conflict(f"build {ref} is still under way")
        if entry.writing is not None:
            await asyncio.wait([entry.writing])
        return entry

    # -- within

    async def _forget(self, entry: Entry) -> None:
        if self._entries.get(entry.record.ref) is not entry:
            return
        del self._entries[entry.record.ref]
        if entry.log is None:  # else there is no file
            await asyncio.to_thread(self._files.remove, entry.kept)
        self._tell(HISTORY_DELETED, entry)

    def _told_of(self, entry: Entry) -> None:
        if entry.log is not None:
            _count(entry.record, entry.log)
        self._tell(HISTORY_COMPLETE if entry.record.completed_at else HISTORY_STARTED, entry)

    def _tell(self, kind: int, entry: Entry) -> None:
        for listener in self._listeners:
            listener.tell(kind, entry)


class _Listener:
    def __init__(self) -> None:
        self._due: dict[tuple[int, str], Entry] = {}
        self._woken = asyncio.Event()

    def tell(self, kind: int, entry: Entry) -> None:
        self._due[kind, entry.record.ref] = entry
        self._woken.set()

    async def events(self) -> AsyncIterator[tuple[int, Entry]]:
        while True:
            await self._woken.wait()
            self._woken.clear()
            due, self._due = self._due, {}
            for (kind, _), entry in due.items():
                yield kind, entry


def _packed(messages: list[StatusResponse]) -> tuple[bytes, Descriptor]:
    log = history_files.packed(messages)
    return log, Descriptor(LOG_TYPE, f"sha256:{hashlib.sha256(log).hexdigest()}", len(log))


def _count(record: BuildHistoryRecord, log: StatusLog) -> None:
    steps = log.steps.values()
    record.num_total_steps = len(steps)
    record.num_completed_steps = sum(bool(each.completed) for each in steps)
    record.num_cached_steps = sum(each.cached for each in steps)
    record.num_warnings = log.warnings


def no_record(ref: str) -> NotFound:
    return NotFound(f"no record found for ref {ref}")
