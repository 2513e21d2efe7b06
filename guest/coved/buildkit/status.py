"""What a build says of itself (``coved.build.progress.Progress``), for any number of listeners, early or late.

Addresses lose their names and passwords: it is shown, and kept."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Container

from coved.build.progress import Status as TransferStatus
from coved.build.progress import Vertex as Step
from coved.buildkit.messages import (
    Position,
    Range,
    SourceInfo,
    StatusResponse,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from coved.dockerfile.instructions import Warning
from coved.outside import without_credentials

LOG_LIMIT = 32 << 20
"""Bytes of output that are kept for those who listen late, or slowly; the oldest goes first."""
GATHER_S = 0.05
_MESSAGE = 512 * 1024
"""About how many bytes of output go into one message."""

_PIECE = 32 * 1024
"""Output is joined up to this size while nobody takes it."""
_OVERHEAD = 200

Event = Vertex | VertexStatus | VertexLog | VertexWarning


class StatusLog:
    def __init__(self) -> None:
        self.steps: dict[str, Vertex] = {}
        """Each as it was last told of."""
        self.warnings = 0
        self.on_step: Callable[[], None] = lambda: None
        """Called when a step has begun or ended."""
        self._events: list[Event | None] = []
        """None is one that nobody needs any more."""
        self._logs: deque[int] = deque()
        """Where output is among them."""
        self._kept = 0
        """Bytes of it."""
        self._transfers: dict[tuple[str, str], int] = {}
        """Where the last event of each transfer is."""
        self._told = 0
        """The number after the last event that any listener has had."""
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()

    def end(self) -> None:
        """There will be no more."""
        self._ending.set()
        self._wake()

    async def follow(self) -> AsyncIterator[StatusResponse]:
        """Everything from the beginning to the end."""
        at = 0
        while True:
            if at < len(self._events):
                message, at = self._collect(at)
                self._told = max(self._told, at)
                if message != StatusResponse():
                    yield message
            elif self._ending.is_set():
                return
            else:
                await self._changed.wait()
                await self._gather()

    def messages(self, most: int) -> list[StatusResponse]:
        """Everything so far, without the oldest output that is beyond so many bytes."""
        passed_over, beyond = set[int](), self._kept - most
        for number in self._logs:
            if beyond <= 0:
                break
            event = self._events[number]
            assert isinstance(event, VertexLog)
            beyond -= len(event.msg) + _OVERHEAD
            passed_over.add(number)
        found, at = [], 0
        while at < len(self._events):
            message, at = self._collect(at, passed_over)
            found.append(message)
        return found

    async def _gather(self) -> None:
        """Lets come together what comes at about the same time: clients draw all anew for each message."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                await self._ending.wait()

    # -- coved.build.progress.Progress

    def vertex(self, vertex: Step) -> None:
        step = Vertex(
            digest=vertex.digest,
            name=without_credentials(vertex.name),
            cached=vertex.cached,
            started=vertex.started_ns,
            completed=vertex.completed_ns,
            error=without_credentials(vertex.error),
        )
        self.steps[step.digest] = step
        self._add(step)
        self.on_step()

    def status(self, status: TransferStatus) -> None:
        message = VertexStatus(
            id=without_credentials(status.id),
            vertex=status.vertex,
            name=without_credentials(status.name),
            current=status.current,
            total=status.total,
            timestamp=time.time_ns(),
            started=status.started_ns,
            completed=status.completed_ns,
        )
        key = status.vertex, status.id
        number = self._transfers.get(key, -1)
        if number >= self._told:
            self._events[number] = message
            return
        if number >= 0:
            self._events[number] = None
        self._transfers[key] = len(self._events)
        self._add(message)

    def log(self, vertex: str, stream: int, data: bytes) -> None:
        last = self._events[-1] if len(self._events) > self._told else None
        if isinstance(last, VertexLog) and (last.vertex, last.stream) == (vertex, stream) and len(last.msg) < _PIECE:
            last.msg += data  # nobody has had it yet
        else:
            self._logs.append(len(self._events))
            self._add(VertexLog(vertex=vertex, timestamp=time.time_ns(), stream=stream, msg=data))
            self._kept += _OVERHEAD
        self._kept += len(data)
        while self._kept > LOG_LIMIT and len(self._logs) > 1:
            number = self._logs.popleft()
            oldest = self._events[number]
            assert isinstance(oldest, VertexLog)
            self._kept -= len(oldest.msg) + _OVERHEAD
            self._events[number] = None

    def warning(self, vertex: str, warning: Warning) -> None:
        lines = warning.location
        self.warnings += 1
        self._add(
            VertexWarning(
                vertex=vertex,
                level=1,
                short=without_credentials(f"{warning.rule}: {warning.message} (line {lines.first})").encode(
                    "utf-8", "replace"
                ),
                detail=[warning.description.encode("utf-8", "replace")],
                url=warning.url,
                info=SourceInfo(warning.filename, warning.text.encode("utf-8", "replace"), language="Dockerfile"),
                ranges=[Range(Position(lines.first), Position(lines.last))],
            )
        )

    def step(self, number: int, total: int, source: str) -> None:
        pass  # the classic builder's

    def note(self, text: str) -> None:
        pass  # the classic builder's

    # -- within

    def _add(self, event: Event) -> None:
        self._events.append(event)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _collect(self, at: int, without: Container[int] = ()) -> tuple[StatusResponse, int]:
        """As much as goes into one message, and where to go on."""
        message, size = StatusResponse(), 0
        while at < len(self._events) and size < _MESSAGE:
            event = None if at in without else self._events[at]
            at += 1
            size += _OVERHEAD
            if isinstance(event, Vertex):
                message.vertexes.append(event)
            elif isinstance(event, VertexStatus):
                message.statuses.append(event)
            elif isinstance(event, VertexWarning):
                message.warnings.append(event)
            elif isinstance(event, VertexLog):
                message.logs.append(event)
                size += len(event.msg)
        return message, at
