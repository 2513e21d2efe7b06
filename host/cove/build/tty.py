"""Progress on a terminal: one view of all steps, drawn again and again in the same place.

The view is BuildKit's (util/progress/progressui). What steps are called and print is text by strangers: nothing of it
that would move the cursor reaches the terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from cove.build.screen import Screen, cut
from cove.build.status import Status
from cove.build.trace import Step, Trace, amount

LOG_ROWS = 6
MARGIN = 10
"""Columns that a step's output leaves free."""
LEAST_NAME = 12
CONTROLS = dict.fromkeys((*range(32), 127, *range(128, 160)), " ")
HIDE, SHOW, RESET, FAINT = b"\x1b[?25l", b"\x1b[?25h", "\x1b[0m", "\x1b[2m"
UNKNOWN_SIZE = (10, 80)
_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_COLORS = (
    {name: f"\x1b[{30 + code}m" for code, name in enumerate(_NAMES)}
    | {f"light-{name}": f"\x1b[{90 + code}m" for code, name in enumerate(_NAMES)}
    | {"default": "\x1b[39m"}
)


@dataclass(frozen=True)
class Row:
    """A line of the view."""

    name: str
    seconds: float
    amounts: str = ""
    color: str = ""
    running: bool = False
    step: Step | None = None
    """Whose output can be shown below it."""


class Terminal:
    """The display. `size` gives (rows, columns), None for an unknown size; `corner` stands at the right of the first
    line.
    """

    def __init__(self, out: BinaryIO, size: Callable[[], tuple[int, int] | None], corner: str = "") -> None:
        self.trace = Trace(keeps_output=True)
        self._out = out
        self._size = size
        self._corner = corner
        self._colors = colors()
        self._log_rows = _number("BUILDKIT_TTY_LOG_LINES", LOG_ROWS)
        self._screens: dict[str, Screen] = {}
        self._shown: dict[str, int] = {}
        """How often each step's output was shown."""
        self._height = 0
        """Lines of the view below its first."""
        self._drawn = False

    def update(self, status: Status) -> None:
        self.trace.update(status)

    def refresh(self) -> None:
        """Draw the view as it is now."""
        self._draw(final=False)

    def done(self) -> None:
        """It is over: draw all of it, and tell of the failures below."""
        self._draw(final=True)
        self._out.write(self.trace.failures())
        self._out.flush()

    def _measure(self) -> tuple[int, int]:
        rows, columns = self._size() or UNKNOWN_SIZE
        return (rows, columns) if rows > 0 and columns > 0 else UNKNOWN_SIZE

    def _rows_of_output(self, rows: int) -> int:
        return max(LOG_ROWS, min(self._log_rows, rows - LOG_ROWS - 1))

    def _draw(self, *, final: bool) -> None:
        rows, columns = self._measure()
        self._write_output(rows, columns)
        every = self._rows()
        outputs, room = self._with_output(every, rows)
        shown = every if final else fitting(every, room)
        lines: list[str] = []
        for row in shown:
            if (line := self._line(row, columns)) is None:
                continue
            lines.append(line)
            if row.step is not None and row.step.digest in outputs:
                for text in outputs[row.step.digest]:
                    lines.append(f"{FAINT} => => # {_filled(text, max(columns - MARGIN, 1))}\n{RESET}")
        text = self._head(columns, final=final) + "".join(lines)
        if (left := self._height - len(lines)) > 0:
            text += (" " * columns + "\n") * left + f"\x1b[{left}A\r"
        up = f"\x1b[{self._height + 1}A" if self._drawn else ""
        self._height, self._drawn = len(lines), True
        self._out.write(HIDE + f"{up}\r{text}".encode(errors="replace") + SHOW)
        self._out.flush()

    def _write_output(self, rows: int, columns: int) -> None:
        """What was printed since the last time: only now, for a step may print more than anyone can draw."""
        for step in self.trace.steps:
            if not step.printed:
                continue
            size = self._rows_of_output(rows), columns - MARGIN
            screen = self._screens.setdefault(step.digest, Screen(*size))
            screen.resize(*size)
            screen.write(bytes(step.printed))
            step.printed.clear()

    def _head(self, columns: int, *, final: bool) -> str:
        trace = self.trace
        completed, count = trace.counts()
        seconds = 0.0 if trace.started is None else (trace.now() - trace.started) / 10**9
        finished = "FINISHED" if final and completed and completed == count else ""
        return (
            cut(
                _aligned(f"[+] Building {seconds:.1f}s ({completed}/{count}) {finished}", self._corner, columns - 1),
                columns,
            )[0]
            + "\n"
        )

    def _rows(self) -> list[Row]:
        now = self.trace.now()
        result = []
        for step in self.trace.steps:
            color, mark = self._colors["run"], ""
            if step.vertex.error:
                color, mark = (
                    (self._colors["cancel"], "CANCELED ") if step.canceled else (self._colors["error"], "ERROR ")
                )
            mark = f"CACHED {mark}" if step.vertex.cached else mark
            running = not step.completed
            result.append(Row(mark + step.vertex.name, step.seconds(now), "", "" if running else color, running, step))
            for part in (step.by_id[id] for id in step.parts):
                end = now if part.completed is None else part.completed
                amounts = amount(part.current) if part.current else ""
                if part.total:
                    amounts = f"{amount(part.current)} / {amount(part.total)}"
                running = part.completed is None
                seconds = (end - (part.started or end)) / 10**9
                result.append(Row(f"=> {part.id}", seconds, amounts, "" if running else self._colors["run"], running))
            for warning in step.warnings:
                result.append(Row(f"WARN: {warning.short}", 0.0))
        return result

    def _with_output(self, rows: Sequence[Row], height: int) -> tuple[dict[str, list[str]], int]:
        """The steps whose output is shown, those first that print most and were shown most, and for how many rows of
        the view there is room then.
        """
        free = height - 2 - sum(row.running for row in rows)
        needed = self._rows_of_output(height) + 3
        candidates = [
            row.step for row in rows if row.running and row.step is not None and row.step.digest in self._screens
        ]
        candidates.sort(key=lambda step: -(step.output_size + self._shown.get(step.digest, 0) * 50))
        chosen: dict[str, list[str]] = {}
        for step in candidates:
            if free <= needed:
                break
            chosen[step.digest] = self._screens[step.digest].lines()
            self._shown[step.digest] = self._shown.get(step.digest, 0) + 1
            free -= needed
        return chosen, height - 2 - sum(map(len, chosen.values()))

    def _line(self, row: Row, columns: int) -> str | None:
        """One row as a line; None where the terminal is too narrow for any."""
        seconds = row.seconds if row.seconds >= 0.05 else 0.0
        timer = f" {seconds:3.1f}s\n"
        left, amounts = columns - len(" => ") - len(timer) - 1, ""
        if row.amounts and left + len(row.amounts) > 20:
            amounts = f" {row.amounts}"
            left -= len(amounts)
        if left < LEAST_NAME:
            return None
        name, _ = cut(row.name.translate(CONTROLS), left)
        line = _aligned(f" => {name}{amounts}", timer, columns)
        return f"{row.color}{line}{RESET}" if row.color else line


def fitting(rows: Sequence[Row], limit: int) -> list[Row]:
    """The last `limit` rows, and in place of finished ones among them those above that are still at work."""
    if limit < 0:
        return []
    last = list(rows[len(rows) - limit :]) if len(rows) > limit else list(rows)
    above = [row for row in rows[: len(rows) - len(last)] if row.running]
    kept, spare = [], len(above)
    for row in last:
        if row.running or spare <= 0:
            kept.append(row)
        else:
            spare -= 1
    free = len(last) - len(kept)
    return above[len(above) - free :] + kept if free else kept


def colors() -> dict[str, str]:
    """The escape for what has run, was canceled, or failed: NO_COLOR and BUILDKIT_COLORS are heeded."""
    result = {"run": "", "cancel": "", "error": "", "warning": ""}
    if os.environ.get("NO_COLOR"):
        return result
    run = "cyan" if sys.platform == "win32" else "blue"
    result |= {"run": _COLORS[run], "cancel": _COLORS["yellow"], "error": _COLORS["red"], "warning": _COLORS["yellow"]}
    for field in os.environ.get("BUILDKIT_COLORS", "").split(":"):
        key, _, value = field.partition("=")
        if key.lower() in result and (color := _COLORS.get(value.lower()) or _rgb(value)):
            result[key.lower()] = color
    return result


def _rgb(text: str) -> str:
    """`"r,g,b"` as one of a terminal's 256 colors."""
    parts = text.strip('"').split(",")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts):
        return ""
    red, green, blue = (round(int(part) / 255 * 5) for part in parts)
    return f"\x1b[38;5;{16 + 36 * red + 6 * green + blue}m"


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else default


def _aligned(left: str, right: str, columns: int) -> str:
    return f"{_filled(left, columns - len(right) - 1)} {right}"


def _filled(text: str, columns: int) -> str:
    if text.isascii():
        return text.ljust(columns)
    return text + " " * (columns - cut(text, columns)[1])
