"""The progress that an engine reports while images move, drawn as docker's client draws it (Docker's jsonmessage).

A message with an `id` and a `progressDetail` owns a line, which later ones of the same id draw again; any other is
told once and ends the block of such lines, so that what follows never moves the lines of an earlier operation.
The bytes are docker's but for two cases that docker gets wrong: a line that is wider than the terminal is cut, for
wrapped it would be two, and one that has left the terminal at the top is not drawn again, for that would overwrite
another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import IO, Any

from cove.cli import terminal
from cove.cli.errors import CliError

Message = dict[str, Any]

UNKNOWN_WIDTH = 200
"""The columns of what is no terminal."""
BAR_FROM = 110
"""More columns than this and there is a bar."""
TIME_LEFT_FROM = 50
CONTROLS = dict.fromkeys((*range(32), 127, *range(128, 160)), "?")
"""What may not stand in a line that is drawn again: it would move the cursor."""


def show(messages: Iterable[Message], out: IO[str] | None, aux: Callable[[Any], None] | None = None) -> None:
    """Draw `messages` on `out`, or only look for what has failed (None). `aux` is given what they carry beside the
    progress. Raises `CliError` for a message that tells a failure.
    """
    if out is None:
        for message in messages:
            if message.get("aux") is None:
                _check(message)
            elif aux is not None:
                aux(message["aux"])
        return
    display = Display(out)
    with terminal.drawing():
        for message in messages:
            if message.get("aux") is None:
                display.draw(message)
            elif aux is not None:
                aux(message["aux"])


class Display:
    """Where messages are drawn."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._terminal = terminal.is_terminal(out.fileno())
        self._lines: dict[str, int] = {}

    def draw(self, message: Message) -> None:
        """Raises `CliError` for a message that tells a failure."""
        identity, detail = _text(message, "id"), _detail(message)
        if not self._terminal:
            _check(message)
            self._out.write(_plain(message, detail))
            self._out.flush()
            return
        rows, columns = terminal.size(self._out.fileno()) or (0, UNKNOWN_WIDTH)
        up, head = 0, ""
        if identity and (detail is not None or _text(message, "progress")):
            if identity not in self._lines:
                self._lines[identity] = len(self._lines)
                head = "\n"
            up = len(self._lines) - self._lines[identity]
        else:
            self._lines.clear()
        _check(message)
        if rows and up >= rows:
            return  # it has left the terminal; nothing can be drawn there any more
        if head or up:
            head += f"\x1b[{up}A"
        tail = f"\x1b[{up}B" if up else ""
        self._out.write(head + _redrawn(message, detail, columns) + tail)
        self._out.flush()


def _redrawn(message: Message, detail: Message | None, columns: int) -> str:
    """One message on a terminal."""
    if detail is None:
        return _plain(message, None)
    drawn = progress(detail, columns)
    line = f"{_prefix(message)}{_text(message, 'status')} {drawn}"
    if _text(message, "stream"):  # for docker this is no line to draw again, nor progress to be seen
        return "" if drawn else line
    line = line.translate(CONTROLS)
    return f"\x1b[2K\r{line[:columns] if columns else line}\r"


def _plain(message: Message, detail: Message | None) -> str:
    """One message where no line can be drawn again: nothing of the progress in between."""
    if detail is not None and progress(detail, UNKNOWN_WIDTH):
        return ""
    if drawn := _text(message, "progress"):
        return f"{_prefix(message)}{_text(message, 'status')} {drawn}"
    return _prefix(message) + (_text(message, "stream") or f"{_text(message, 'status')}\n")


def _prefix(message: Message) -> str:
    moment = _number(message, "timeNano") or _number(message, "time") * 10**9
    prefix = ""
    if moment:
        from cove.cli.events import local_rfc3339

        prefix = f"{local_rfc3339(moment)} "
    if identity := _text(message, "id"):
        prefix += f"{identity}: "
    if source := _text(message, "from"):
        prefix += f"(from {source}) "
    return prefix


def progress(detail: Message, columns: int, now: float | None = None) -> str:
    """`[====>     ]  1.2MB/3.4MB 5s` for `progressDetail`, on a terminal of so many columns; empty when nothing has
    begun. `now` is in seconds since the epoch.
    """
    current, total = _number(detail, "current"), _number(detail, "total")
    units = _text(detail, "units")
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return _amount(current, units)
    half = max(min(int(current / total * 100) // 2, 50), 0)
    drawn = f"[{'=' * half}>{' ' * (50 - half)}] " if columns > BAR_FROM else ""
    if not detail.get("hidecounts"):
        # A total that is exceeded is none.
        drawn += _amount(current, units) if current > total else _amount(current, units, total)
    start = _number(detail, "start")
    if columns > TIME_LEFT_FROM and current > 0 and start > 0 and half < 50:
        spent = (time.time() if now is None else now) - start
        drawn += " " + _duration((total - current) * (spent / current))
    return drawn


def _amount(current: int, units: str, total: int | None = None) -> str:
    from cove.cli.format import human_size

    if units:
        return f"{current} {units}" if total is None else f"{current}/{total} {units}"
    return f"{human_size(current):>8}" + ("" if total is None else f"/{human_size(total)}")


def _duration(seconds: float) -> str:
    """Whole seconds as Go writes them: 1h0m5s."""
    whole = int(abs(seconds) + 0.5)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    text = f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"
    return f"-{text}" if seconds < 0 and whole else text


def _check(message: Message) -> None:
    detail = message.get("errorDetail")
    if isinstance(detail, dict):
        raise CliError(_text(detail, "message"))
    if error := _text(message, "error"):
        raise CliError(error)


def _detail(message: Message) -> Message | None:
    detail = message.get("progressDetail")
    return detail if isinstance(detail, dict) else None


def _text(message: Message, name: str) -> str:
    value = message.get(name)
    return value if isinstance(value, str) else ""


def _number(message: Message, name: str) -> int:
    value = message.get(name)
    return value if isinstance(value, int) else 0
