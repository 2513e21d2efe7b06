"""The lines of a Dockerfile put together: each instruction on one line, its comments above it, its documents behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coved.dockerfile import arguments, heredocs
from coved.dockerfile.directives import Directives, check_escape
from coved.dockerfile.instructions import DockerfileError, Location, Warning
from coved.dockerfile.text import SPACE

_BOM = "\ufeff"
_LONGEST = 65535
"""Bytes of a line (Go's bufio.MaxScanTokenSize)."""
_WITH_DOCUMENTS = frozenset({"add", "copy", "run"})


@dataclass(frozen=True)
class Document:
    """``content`` is as it stands there, tabs and all."""

    start: heredocs.Start
    content: str


@dataclass(frozen=True)
class Line:
    text: str
    keyword: str
    """As it is written."""
    flags: list[str]
    rest: str
    location: Location
    comments: tuple[str, ...]
    documents: tuple[Document, ...]


class Reader:
    """Reads a Dockerfile's instructions once, in order."""

    def __init__(self, text: str, escape: str = "\\") -> None:
        self._lines = text.removeprefix(_BOM).split("\n")
        if not self._lines[-1]:
            self._lines.pop()
        self._number = 0
        self._directives = Directives()
        self.escape = escape
        self.warnings: list[Warning] = []

    @property
    def directives(self) -> dict[str, str]:
        return self._directives.found

    def _next(self) -> str | None:
        """The line without its end; None at the end of the file."""
        if self._number == len(self._lines):
            return None
        line = self._lines[self._number]
        self._number += 1
        if len(line) > _LONGEST or (not line.isascii() and len(line.encode()) > _LONGEST):
            message = f"dockerfile line greater than max allowed size of {_LONGEST}"
            raise DockerfileError(message, Location(self._number, self._number))
        return line.rstrip("\r")

    def _is_directive(self, line: str) -> bool:
        try:
            name = self._directives.read(line)
            if name == "escape":
                self.escape = check_escape(self._directives.found[name])
        except DockerfileError as error:
            raise DockerfileError(str(error), Location(self._number, self._number)) from None
        return name is not None

    def __iter__(self) -> Iterator[Line]:
        """Raises ``DockerfileError``."""
        comments: list[str] = []
        while (line := self._next()) is not None:
            stripped = line.lstrip(SPACE)
            directive = self._is_directive(stripped)
            if stripped.startswith("#"):
                comment = line[1:].strip(SPACE)
                if not comment:
                    comments = []
                elif not directive:
                    comments.append(comment)
                continue
            if not stripped:
                continue
            yield self._instruction(stripped, tuple(comments))
            comments = []

    def _instruction(self, line: str, comments: tuple[str, ...]) -> Line:
        first = self._number
        text = self._joined(line)
        try:
            keyword, flags, rest = arguments.split_line(text, self.escape)
            starts = heredocs.starts(text) if "<<" in text and self._takes_documents(keyword, rest) else []
            documents = tuple(Document(start, self._content(start)) for start in starts)
        except DockerfileError as error:
            raise DockerfileError(str(error), Location(first, self._number)) from None
        location = Location(first, self._number)
        return Line(text, keyword, flags, rest, location, comments, documents)

    def _joined(self, line: str) -> str:
        """The line and those it is continued on."""
        line, goes_on = self._cut(line)
        parts = [line]
        empty = False
        while goes_on:
            following = self._next()
            if following is None:
                break
            stripped = following.lstrip(SPACE)
            if stripped.startswith("#"):
                continue
            if not stripped:
                empty = True
                continue
            following, goes_on = self._cut(following)
            parts.append(following)
        if empty:
            self.warnings.append(_empty_continuation(self._number))
        return "".join(parts)

    def _cut(self, line: str) -> tuple[str, bool]:
        """The line without the escape character at its end, and whether there was one that is not itself escaped."""
        trimmed = line.rstrip(" \t")
        if not trimmed.endswith(self.escape) or trimmed.endswith(self.escape * 2):
            return line, False
        return trimmed[:-1], True

    def _takes_documents(self, keyword: str, rest: str) -> bool:
        keyword = keyword.lower()
        if keyword == "onbuild":
            keyword, _, rest = arguments.split_line(rest, self.escape)
            keyword = keyword.lower()
        return keyword in _WITH_DOCUMENTS and arguments.exec_form(rest) is None

    def _content(self, start: heredocs.Start) -> str:
        first = self._number
        while (line := self._next()) is not None:
            if (line.lstrip("\t") if start.chomp else line) == start.name:
                return "".join(f"{text}\n" for text in self._lines[first : self._number - 1])
        raise DockerfileError("unterminated heredoc")


def _empty_continuation(number: int) -> Warning:
    return Warning(
        rule="NoEmptyContinuation",
        description="Empty continuation lines will become errors in a future release",
        url="https://docs.docker.com/go/dockerfile/rule/no-empty-continuation/",
        message="Empty continuation line",
        location=Location(number, number),
    )
