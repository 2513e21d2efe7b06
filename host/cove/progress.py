"""Progress of the long steps (image, machine, boot, ready), and how it is shown.

Whoever works reports `Event`s to a callback; `renderer` gives the callback that suits where the user looks: bars on a
terminal, a few plain lines elsewhere. Events cross the agent's socket as JSON.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import IO, Any

REACHABLE = "ssh"
"""The phase of an event that is shown to nobody: the machine's sshd answers, whatever its engine does."""
PLAIN_INTERVAL_S = 5.0
"""Seconds between two lines of the same step where there is no terminal."""
SMALL = 1_000_000
"""Bytes below which they are told in kB."""


@dataclass(frozen=True, slots=True)
class Event:
    """One step forward.

    `phase` is a word such as "image", "machine", "boot", "ready" (one line each on the screen); `done` and `total` are bytes and may
    be unknown; `detail` is a further line of explanation, shown once.
    """

    phase: str
    text: str
    done: int | None = None
    total: int | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Event:
        """Raises `KeyError` when a field is missing."""
        return cls(
            str(value["phase"]), str(value["text"]), value.get("done"), value.get("total"), str(value.get("detail", ""))
        )


Report = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The callback of those who do not care."""


@contextmanager
def renderer(title: str = "", stream: IO[str] | None = None) -> Iterator[Report]:
    """A callback that shows events on `stream` (standard error by default); what is shown is complete when the block ends.

    `title` is printed before the first event, and not at all when there is none: a machine that runs says nothing.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        with _bars(title, stream) as report:
            yield report
    else:
        yield _PlainLines(title, stream).report


class _PlainLines:
    """A line for each step, and of one that takes long another every few seconds and when its bytes are complete."""

    def __init__(self, title: str, stream: IO[str]) -> None:
        self._title = title
        self._stream = stream
        self._shown: tuple[str, str] | None = None
        self._complete = False
        self._slow = False
        self._last = 0.0

    def report(self, event: Event) -> None:
        now = time.monotonic()
        complete = event.total is not None and event.done == event.total
        new = self._shown != (event.phase, event.text)
        due = now - self._last >= PLAIN_INTERVAL_S and not (complete and self._complete)
        if new:
            self._slow = False
        # One that is done at once is told once.
        if not (new or event.detail or due or (complete and self._slow and not self._complete)):
            return
        if self._title:
            print(self._title, file=self._stream)
            self._title = ""
        print(f"  {event.phase:<8} {event.text}{_bytes(event)}", file=self._stream)
        if event.detail:
            print(f"  {'':<8} ({event.detail})", file=self._stream)
        self._stream.flush()
        self._slow = self._slow or not new
        self._shown, self._complete, self._last = (event.phase, event.text), complete, now


def _bytes(event: Event) -> str:
    if not event.done:
        return f"  {_size(event.total)}" if event.total else ""
    if event.total is None:
        return f"  {_size(event.done)}"
    if event.total < SMALL:
        return f"  {event.done / 1e3:.0f}/{event.total / 1e3:.0f} kB"
    return f"  {event.done / 1e6:.0f}/{event.total / 1e6:.0f} MB"


def _size(count: int) -> str:
    return f"{count / 1e3:.0f} kB" if count < SMALL else f"{count / 1e6:.0f} MB"


@contextmanager
def _bars(title: str, stream: IO[str]) -> Iterator[Report]:
    # rich takes some 50 ms to import: only those pay who wait for minutes anyhow.
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Task as Row
    from rich.text import Text

    class Bytes(DownloadColumn):
        def render(self, task: Row) -> Text:
            return super().render(task) if task.fields["sized"] else Text("")

    class Bar(BarColumn):
        def render(self, task: Row) -> Any:
            return super().render(task) if task.fields["sized"] else Text("")

    class Left(TimeRemainingColumn):
        def render(self, task: Row) -> Text:
            return super().render(task) if task.fields["sized"] and not task.finished else Text("")

    console = Console(file=stream, highlight=False)
    columns = (TextColumn("  [bold cyan]{task.fields[phase]:<8}[/]"), TextColumn("{task.description}"))
    progress = Progress(*columns, Bar(bar_width=20), Bytes(), Left(), console=console, refresh_per_second=5)
    rows: dict[str, TaskID] = {}

    def report(event: Event) -> None:
        if not rows:
            if title:
                console.print(title)
            progress.start()
        sized = event.total is not None
        if event.phase not in rows:
            rows[event.phase] = progress.add_task("", total=None, phase=event.phase, sized=sized)
        text = escape(event.text)
        if event.detail:
            progress.add_task(f"[dim]({escape(event.detail)})[/]", total=None, phase="", sized=False)
        progress.update(rows[event.phase], description=text, completed=event.done or 0, total=event.total, sized=sized)

    try:
        yield report
    finally:
        progress.stop()
