"""Wildcards in paths: Go's filepath.Match, and ``**`` as moby's patternmatcher has it."""

from __future__ import annotations

import posixpath
import re

from coved.dockerfile.automaton import Automaton, Char, Folders, Many, One, OneOf, Token
from coved.dockerfile.expressions import expression, is_simple
from coved.dockerfile.instructions import DockerfileError

_BAD = "syntax error in pattern"
_SLASH = "/"


class Wildcard:
    """What one source of COPY matches; ``*`` and ``?`` stand for no slash.

    ``deep``: ``**/`` stands for any folders, as with ``COPY --parents``; otherwise two stars are one.
    Raises ``DockerfileError`` for a pattern that is none.
    """

    def __init__(self, pattern: str, *, deep: bool = False) -> None:
        found = tokens(pattern, deep=deep)
        self._automaton = Automaton(found)
        self._expression = re.compile(expression(found, r"\Z"), re.DOTALL) if is_simple(found) else None

    def matches(self, path: str) -> bool:
        return bool(self._expression.match(path)) if self._expression else self._automaton.matches(path)

    def may_match_below(self, directory: str) -> bool:
        """Whether something in the directory, at any depth, may match."""
        return self._automaton.may_begin_with(directory + _SLASH)


def has_wildcards(path: str) -> bool:
    position = 0
    while position < len(path):
        if path[position] in "*?[":
            return True
        position += 2 if path[position] == "\\" else 1
    return False


def split(path: str) -> tuple[str, str]:
    """The folder before the first part that has wildcards, and the rest; "" for the rest when none has."""
    parts = path.split(_SLASH)
    for i, part in enumerate(parts):
        if has_wildcards(part):
            return _SLASH.join(parts[:i]) or (_SLASH if i else ""), _SLASH.join(parts[i:])
    return path, ""


def clean(path: str) -> str:
    """Go's filepath.Clean."""
    path = posixpath.normpath(path)
    return path[1:] if path.startswith("//") else path


def tokens(pattern: str, *, deep: bool) -> list[Token]:
    """Raises ``DockerfileError`` for what filepath.Match takes for no pattern."""
    found: list[Token] = []
    position, length = 0, len(pattern)
    while position < length:
        char = pattern[position]
        position += 1
        if char == "*" and deep and pattern.startswith("*", position):
            position += 1
            found.append(_any_folders(pattern, position, first=not found))
            position += pattern.startswith(_SLASH, position)
        elif char == "*":
            if not (found and found[-1] == Many(_SLASH)):
                found.append(Many(_SLASH))
        elif char == "?":
            found.append(One(_SLASH))
        elif char == "[":
            token, position = _class(pattern, position)
            found.append(token)
        elif char == "\\":
            if position == length:
                raise DockerfileError(_BAD)
            found.append(Char(pattern[position]))
            position += 1
        else:
            found.append(Char(char))
    return found


def _any_folders(pattern: str, position: int, *, first: bool) -> Token:
    """The ``**`` that ends here: whole folders, or anything at all where nothing follows.

    moby's patternmatcher has it that ``**name`` is whatever ends so, though ``**name*`` is only what a folder holds.
    """
    rest = pattern[position:]
    if rest in ("", _SLASH) or (first and rest[0] != _SLASH and not set(rest) & set("*?[]\\")):
        return Many("")
    return Folders()


def _class(pattern: str, position: int) -> tuple[OneOf, int]:
    """``[...]`` behind its bracket, and where it ends."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern.startswith("]", position)):
        low, position = _class_char(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _class_char(pattern, position + 1)
        ranges.append((low, high))
    return OneOf(tuple(ranges), negated), position + 1


def _class_char(pattern: str, position: int) -> tuple[str, int]:
    escaped = pattern.startswith("\\", position)
    position += escaped
    char = pattern[position : position + 1]
    if not char or (not escaped and char in "-]") or position + 1 == len(pattern):
        raise DockerfileError(_BAD)
    return char, position + 1
