"""The state of a build, gathered from what the engine has told so far; the displays draw it.

What is told and when is BuildKit's (util/progress/progressui), so that both show a build in the same way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cove.build.status import SECOND, Group, Log, Part, Status, Vertex, Warn

CANCELED = "context canceled"
"""How the error of a step ends that was given up."""
SHOWN_BYTES = 16 * 1024
"""How much of a step's output can matter for its last lines."""
KEPT_LINES = 10
"""How many last lines of a step are told again when it fails, where all of them have been printed already."""


@dataclass(frozen=True)
class Interval:
    """When a step was at work; `stop` None is still."""

    start: int
    stop: int | None = None

    def nanoseconds(self, now: int) -> int:
        return (now if self.stop is None else self.stop) - self.start


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """`intervals` in order, those that touch as one."""
    result: list[Interval] = []
    for each in sorted(intervals, key=lambda interval: interval.start):
        last = result[-1] if result else None
        if last is None or (last.stop is not None and last.stop < each.start):
            result.append(each)
        elif last.stop is not None and (each.stop is None or each.stop > last.stop):
            result[-1] = Interval(last.start, each.stop)
    return result


class Step:
    """A step, or a group of steps that is shown as one."""

    def __init__(self, vertex: Vertex, *, hidden: bool = False) -> None:
        self.vertex = vertex
        self.hidden = hidden
        """It is a group of which nothing that counts has started."""
        self.parts: list[str] = []
        """Ids of those that have started, in that order."""
        self.by_id: dict[str, Part] = {}
        self.changed_parts: set[str] = set()
        self.lines: list[bytearray] = []
        """What was printed, each line with its time before it, and not yet taken by a display."""
        self.unfinished = False
        """The last line goes on."""
        self.last_lines: deque[bytes] = deque(maxlen=KEPT_LINES)
        self.warnings: list[Warn] = []
        self.printed = bytearray()
        """The end of what was printed, as it came, since a display has taken it; only where `Trace.keeps_output`."""
        self.output_size = 0
        self.index = 0
        """Its number in the plain display, from 1."""
        self.news = 0
        """How much has happened since it was last shown."""
        self.news_since = 0.0
        self.members: dict[str, Vertex] = {}
        self._intervals: dict[int, Interval] = {}

    @property
    def digest(self) -> str:
        return self.vertex.digest

    @property
    def intervals(self) -> list[Interval]:
        return merged(self._intervals.values())

    @property
    def started(self) -> bool:
        return bool(self._intervals)

    @property
    def completed(self) -> bool:
        """Its last interval is over."""
        return self.started and self.intervals[-1].stop is not None

    @property
    def canceled(self) -> bool:
        return self.vertex.error.endswith(CANCELED)

    def seconds(self, now: int) -> float:
        """How long it has been at work; `now` by the engine's clock."""
        return sum(each.nanoseconds(now) for each in self.intervals) / SECOND

    def tell(self) -> None:
        """Something has happened in it."""
        if not self.news:
            self.news_since = time.monotonic()
        self.news += 1

    def take(self, vertex: Vertex) -> None:
        """A new state of it."""
        if vertex.started is not None or not self.started:
            self.vertex = vertex
        self._note(vertex)

    def _note(self, vertex: Vertex) -> None:
        if vertex.started is not None:
            self._intervals[vertex.started] = Interval(vertex.started, vertex.completed)

    def take_member(self, vertex: Vertex) -> None:
        """A new state of a member of the group."""
        assert vertex.group is not None
        self.members[vertex.digest] = vertex
        self._note(vertex)
        if vertex.started is not None and not vertex.group.weak:
            self.hidden = False
        errors = [member.error for member in self.members.values() if member.error]
        if len(errors) > 1:
            self.hidden = False
        cached = all(member.cached for member in self.members.values())
        self.vertex = replace(self.vertex, cached=cached, error=errors[0] if errors else "")

    def print(self, log: Log) -> None:
        """More of its output."""
        pieces = log.data.split(b"\n")
        last = pieces.pop()
        for number, piece in enumerate([*pieces, last] if last else pieces):
            if number == 0 and self.unfinished and self.lines:
                self.lines[-1] += piece
            else:
                intervals = self.intervals
                self.lines.append(bytearray(_moment(log.timestamp - intervals[-1].start if intervals else 0)) + piece)
        if log.data:
            self.unfinished = bool(last)


def _moment(nanoseconds: int) -> bytes:
    """The time before a line of output: with as many digits as BuildKit gives it."""
    seconds = nanoseconds / SECOND
    digits = 3 if seconds < 10 else 2 if seconds < 100 else 1
    return f"{seconds:.{digits}f} ".encode()


class Trace:
    """The state of one build. With `keeps_output` what steps print is kept as it came, too, for whoever draws it."""

    def __init__(self, *, keeps_output: bool = False) -> None:
        self.steps: list[Step] = []
        """Those that have started and are shown, in that order."""
        self.by_digest: dict[str, Step] = {}
        """Also the members of a group, for which the group stands."""
        self.changed: dict[str, None] = {}
        """Digests of the steps of which a display has yet to tell, in the order in which they had something to tell."""
        self.started: int | None = None
        self.clock_ahead = 0
        """How far our clock is ahead of the engine's, as near as can be known."""
        self.warnings: list[Warn] = []
        self._keeps_output = keeps_output

    def now(self) -> int:
        """By the engine's clock."""
        return time.time_ns() - self.clock_ahead

    def update(self, status: Status) -> None:
        """Take in a message."""
        groups: dict[str, tuple[Step, bool, Vertex, list[Interval]]] = {}
        for vertex in status.vertexes:
            if self.started is None:
                self.started = vertex.started
            if vertex.group is None:
                self._vertex(vertex)
                continue
            group = self._group(vertex.group)
            groups.setdefault(group.digest, (group, group.hidden, group.vertex, group.intervals))
            self.by_digest[vertex.digest] = group
            group.take_member(vertex)
            if group.started and not self.clock_ahead:
                self._set_clock(group.intervals[0].start)
        for group, was_hidden, vertex, intervals in groups.values():
            if group.hidden:
                continue
            if was_hidden:
                self.steps.append(group)
            if was_hidden or group.vertex != vertex or group.intervals != intervals:
                self._news(group)
        for part in status.parts:
            self._part(part)
        for warning in status.warnings:
            self.warnings.append(warning)
            if (step := self.by_digest.get(warning.vertex)) is not None:
                step.warnings.append(warning)
                step.tell()
        for log in status.logs:
            if (step := self.by_digest.get(log.vertex)) is not None:
                if self._keeps_output:
                    step.printed += log.data
                    del step.printed[:-SHOWN_BYTES]
                    step.output_size += len(log.data)
                step.print(log)
                self._news(step)

    def _set_clock(self, started: int) -> None:
        self.clock_ahead = time.time_ns() - started

    def _news(self, step: Step) -> None:
        step.tell()
        self.changed[step.digest] = None

    def _vertex(self, vertex: Vertex) -> None:
        step = self.by_digest.get(vertex.digest)
        if step is None:
            step = self.by_digest[vertex.digest] = Step(vertex)
        before, was_started = step.vertex, step.started
        step.take(vertex)
        if vertex.started is None:
            return
        if not was_started:
            if not self.clock_ahead:
                self._set_clock(vertex.started)
            self.steps.append(step)
        if not was_started or step.vertex != before:
            self._news(step)

    def _group(self, group: Group) -> Step:
        step = self.by_digest.get(group.id)
        if step is None:
            step = self.by_digest[group.id] = Step(Vertex(group.id, group.name), hidden=True)
        return step

    def _part(self, part: Part) -> None:
        step = self.by_digest.get(part.vertex)
        if step is None:
            return
        before = step.by_id.get(part.id)
        if part.started is not None and (before is None or before.started is None):
            step.parts.append(part.id)
        step.by_id[part.id] = part
        step.changed_parts.add(part.id)
        self._news(step)

    def counts(self) -> tuple[int, int]:
        """How many steps are completed, and how many there are."""
        shown = {id(step): step for step in self.by_digest.values() if not step.hidden}
        return sum(step.completed for step in shown.values()), len(shown)

    def failures(self) -> bytes:
        """What is told at the end of the steps that have failed: the end of their output."""
        text = b""
        for step in self.steps:
            if step.vertex.error and not step.canceled:
                lines = [*step.last_lines, *(bytes(line) for line in step.lines)]
                body = b"".join(line + b"\n" for line in lines)
                text += b"------\n > " + step.vertex.name.encode() + b":\n" + body + b"------\n"
        return text


UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


def amount(count: int) -> str:
    """Bytes as BuildKit writes them: 310B, 308.06kB."""
    value, unit = float(count), ""
    for larger in UNITS:
        if abs(value) < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.2f}{unit}" if unit else f"{count}B"
