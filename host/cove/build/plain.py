"""Progress as lines that are never drawn again, for pipes and log files.

Steps that run at the same time would mix their output: one has the word, until it is done or another has waited for
long (BuildKit's textMux; what is printed and when is its).
"""

from __future__ import annotations

import os
import time
from typing import BinaryIO

from cove.build.status import SECOND, Part, Status
from cove.build.trace import Step, Trace, amount

PATIENCE_S = 10.0
"""A step that has had something to tell for so long gets the word."""
CALM_S = 5.0
"""How long a step has the word at least while others have as much to tell."""
PART_NS = 5 * SECOND
PART_SHARE = 0.05
"""How much later, or further, a part must be to be told of again."""
NAME_CUT = 72


class Plain:
    """The display. `description` is told at the top, as step 0."""

    def __init__(self, out: BinaryIO, description: str = "") -> None:
        self.trace = Trace()
        self._out = out
        self._description = description
        self._current: Step | None = None
        self._told: dict[str, Part] = {}
        self._begun = False
        self._count = 0
        self._offset = 0
        """How much of the current step's unfinished line has been printed."""

    def update(self, status: Status) -> None:
        self.trace.update(status)

    def refresh(self) -> None:
        """Print what is to be told now."""
        completed, running = self._told_of()
        current = self._current
        if ended := current is not None and current in completed:
            assert current is not None
            completed.remove(current)
            self._print(current)
        for step in sorted(completed, key=lambda step: step.intervals[-1].stop or 0):
            self._print(step)
        if not running:
            if current is None or current.completed:
                self._print_any()
        else:
            if current is not None and current in running:
                self._print(current)
            if current is None or ended:
                self._print(max(running, key=_speed))
            else:
                self._pass_on(current, running)
        self._out.flush()

    def done(self) -> None:
        """It is over: print what is left."""
        self.refresh()
        self._out.write(self.trace.failures())
        self._out.flush()

    def _told_of(self) -> tuple[list[Step], list[Step]]:
        """Those of which there is something to tell: the completed ones, and those that run."""
        completed: list[Step] = []
        running: list[Step] = []
        for digest in self.trace.changed:
            step = self.trace.by_digest[digest]
            if not step.hidden:
                (completed if step.completed else running).append(step)
        return completed, running

    def _print_any(self) -> None:
        for step in self.trace.steps:
            if step.started and not step.completed:
                self._print(step)
                return

    def _pass_on(self, current: Step, running: list[Step]) -> None:
        """Give the word to another when it is time."""
        now = time.monotonic()
        for step in running:
            if step is not current and now - step.news_since > PATIENCE_S:
                self._print(step)
                return
        every = {id(step): step for step in (*running, current)}.values()
        total = sum(map(_speed, every))
        share = _speed(current) / total if total else 0.0
        if share < 1 and CALM_S / (1 - share) < now - current.news_since:
            self._print(max(every, key=_speed))

    def _print(self, step: Step) -> None:
        if not step.index:
            self._count += 1
            step.index = self._count
        if step is not self._current:
            self._turn_to(step)
        parts = [part for id in step.parts if id in step.changed_parts and self._is_news(part := step.by_id[id])]
        step.changed_parts.clear()
        lines = [*map(_part, parts), *(f"WARN: {warning.short}" for warning in step.warnings)]
        step.warnings.clear()
        for line in lines:
            self._write(f"#{step.index} {line}\n".encode())
        self._print_output(step)
        self._current = step
        if step.completed and all(part.completed is not None for part in parts):
            self._current, step.news = None, 0
            self._write(b"\n" if step.unfinished else b"")
            self._write(f"#{step.index} {self._end(step)}\n".encode())
        self.trace.changed.pop(step.digest, None)

    def _is_news(self, part: Part) -> bool:
        """Whether so much has happened with the part that it is told of again."""
        told = self._told.get(part.id)
        if told is not None and part.completed is None:
            share = (part.current - told.current) / part.total if part.total > 0 else 0.0
            if share < PART_SHARE and part.timestamp - told.timestamp < PART_NS:
                return False
        self._told[part.id] = part
        return True

    def _print_output(self, step: Step) -> None:
        for number, line in enumerate(step.lines):
            whole = number < len(step.lines) - 1 or not step.unfinished
            if number == 0 and self._offset:
                self._write(bytes(line[self._offset :]))
            else:
                self._write(b"#%d %s" % (step.index, line))
            self._offset = 0 if whole else len(line)
            if whole:
                self._write(b"\n")
                step.last_lines.append(bytes(line))
        step.lines = step.lines[-1:] if step.unfinished else []

    def _turn_to(self, step: Step) -> None:
        if (old := self._current) is not None:
            if old.unfinished:
                self._write(b"\n")
            self._offset, old.news = 0, 0
            self._write(f"#{old.index} ...\n".encode())
        if self._begun:
            self._write(b"\n")
        elif self._description:
            self._write(f"#0 {self._description}\n\n".encode())
        self._begun = True
        name = step.vertex.name
        if os.environ.get("PROGRESS_NO_TRUNC") == "0" and len(name) > NAME_CUT:
            name = f"{name[:NAME_CUT]}..."
        self._write(f"#{step.index} {name}\n".encode())

    def _write(self, data: bytes) -> None:
        self._out.write(data)

    def _end(self, step: Step) -> str:
        if step.vertex.error:
            return "CANCELED" if step.canceled else f"ERROR: {step.vertex.error}"
        return "CACHED" if step.vertex.cached else f"DONE {step.seconds(self.trace.now()):.1f}s"


def _speed(step: Step) -> float:
    """How much it has had to tell in a second."""
    return step.news / max(time.monotonic() - step.news_since, 1e-9)


def _part(part: Part) -> str:
    line = part.id
    if part.total:
        line += f" {amount(part.current)} / {amount(part.total)}"
    elif part.current:
        line += f" {amount(part.current)}"
    if part.started is not None:
        end = part.timestamp if part.completed is None else part.completed
        seconds = (end - part.started) / SECOND
        line += f" {seconds:.1f}s" if seconds > 0.01 else ""
    return line if part.completed is None else f"{line} done"
