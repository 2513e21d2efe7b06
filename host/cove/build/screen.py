"""A small terminal that shows the last lines of what a step prints, whatever a program does to draw its progress.

It obeys what moves text within lines and up and down (ECMA-48); colours and all else that has no place in a few plain
lines are dropped, so that nothing of it reaches the user's terminal but text.
"""

from __future__ import annotations

import re
import unicodedata

_ESCAPE = re.compile(
    r"""\x1b(?:\[(?P<args>[0-?]*)[ -/]*(?P<final>[@-~])   # CSI
          |[\]PX^_].*?(?:\x07|\x1b\\)                      # OSC, DCS and their like: strings for a terminal
          |[ -/]*[0-Z\\^-~])                               # other escapes, of two characters or more""",
    re.VERBOSE | re.DOTALL,
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_](?:(?!\x07|\x1b\\).)*|[ -/]*)\Z", re.DOTALL)
LONGEST_ESCAPE = 256
"""A longer one that does not end is no escape."""
TAB = 8
FIGURES = 5
"""Of a number in an escape: all that any screen needs."""


def width(character: str) -> int:
    """How many columns a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int) -> tuple[str, int]:
    """The beginning of `text` that fits into so many columns, and how many it takes."""
    if text.isascii():
        return text[:columns], min(len(text), columns)
    taken = 0
    for index, character in enumerate(text):
        wide = width(character)
        if taken + wide > columns:
            return text[:index], taken
        taken += wide
    return text, taken


class Screen:
    """`rows` lines of at most `columns` columns, at the end of what was written."""

    def __init__(self, rows: int, columns: int) -> None:
        self._rows = rows
        self._columns = max(columns, 1)
        self._lines: list[list[str]] = [[]]
        self._row = self._column = 0
        self._held = b""
        self._escape = ""

    def lines(self) -> list[str]:
        """What can be seen, without empty lines."""
        return [text for line in self._lines if (text := "".join(line).rstrip())]

    def resize(self, rows: int, columns: int) -> None:
        """Another size, for what is yet to be written."""
        self._rows, self._columns = rows, max(columns, 1)
        self._scroll()

    def write(self, data: bytes) -> None:
        """Show more. Characters and escapes may be split among calls."""
        data = self._held + data
        end = _whole(data)
        self._held = data[end:]
        text = self._escape + data[:end].decode(errors="replace")
        self._escape = ""
        if (unfinished := _UNFINISHED.search(text)) is not None and len(text) - unfinished.start() < LONGEST_ESCAPE:
            text, self._escape = text[: unfinished.start()], text[unfinished.start() :]
        at = 0
        for escape in _ESCAPE.finditer(text):
            self._text(text[at : escape.start()])
            at = escape.end()
            if escape["final"]:
                self._command(escape["final"], escape["args"])
        self._text(text[at:])

    def _text(self, text: str) -> None:
        for character in text:
            if character == "\n":
                self._row, self._column = self._row + 1, 0
                self._scroll()
            elif character == "\r":
                self._column = 0
            elif character == "\b":
                self._column = max(self._column - 1, 0)
            elif character == "\t":
                self._column = min((self._column // TAB + 1) * TAB, self._columns - 1)
            elif character.isprintable():
                self._put(character)

    def _put(self, character: str) -> None:
        wide = width(character)
        if not wide:
            return
        if self._column + wide > self._columns:
            self._row, self._column = self._row + 1, 0
            self._scroll()
        line = self._lines[self._row]
        line += " " * (self._column + wide - len(line))
        line[self._column] = character
        if wide == 2 and self._column + 1 < len(line):
            line[self._column + 1] = ""
        self._column += wide

    def _scroll(self) -> None:
        while self._row >= len(self._lines):
            self._lines.append([])
        if (above := len(self._lines) - self._rows) > 0:
            del self._lines[:above]
            self._row = max(self._row - above, 0)

    def _command(self, final: str, arguments: str) -> None:
        numbers = [int(part[:FIGURES]) if part.isascii() and part.isdigit() else 0 for part in arguments.split(";")]
        count = max(numbers[0], 1)
        if final == "A":
            self._row = max(self._row - count, 0)
        elif final == "B":
            self._row = min(self._row + count, len(self._lines) - 1)
        elif final == "C":
            self._column = min(self._column + count, self._columns - 1)
        elif final == "D":
            self._column = max(self._column - count, 0)
        elif final == "G":
            self._column = min(count, self._columns) - 1
        elif final in "Hf":
            self._row = min(count, len(self._lines)) - 1
            self._column = min(max(numbers[1] if len(numbers) > 1 else 1, 1), self._columns) - 1
        elif final == "K":
            self._erase_line(numbers[0])
        elif final == "J":
            self._erase(numbers[0])

    def _erase_line(self, which: int) -> None:
        line = self._lines[self._row]
        if which == 0:
            del line[self._column :]
        else:
            end = len(line) if which == 2 else min(self._column + 1, len(line))
            line[:end] = " " * end

    def _erase(self, which: int) -> None:
        if which == 0:
            self._erase_line(0)
            del self._lines[self._row + 1 :]
        elif which in (2, 3):
            self._lines, self._row = [[]], 0


def _whole(data: bytes) -> int:
    """Where the last character of `data` ends that is not cut off (UTF-8)."""
    for back in range(1, min(len(data), 4) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        length = (
            1
            if byte < 0x80
            else 2
            if byte & 0xE0 == 0xC0
            else 3
            if byte & 0xF0 == 0xE0
            else 4
            if byte & 0xF8 == 0xF0
            else 1
        )
        return len(data) - back if length > back else len(data)
    return len(data)
