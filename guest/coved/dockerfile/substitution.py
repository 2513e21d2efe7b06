"""``${name#pattern}`` and its like: the pattern's side of it (POSIX shell 2.6.2 and 2.13, without bracket expressions)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from coved.dockerfile.automaton import Automaton, Char, Many, One, Token

_NEWLINE = "\n"
"""What ``*`` and ``?`` do not stand for."""
_GROUP = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))", re.ASCII)


class BadPattern(ValueError):
    """What is wrong with it, in BuildKit's words."""


def trim_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """Raises ``BadPattern``."""
    end = _end(Automaton(_tokens(pattern)).ends(value), longest=longest)
    return value if end is None else value[end:]


def trim_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """Raises ``BadPattern``."""
    end = _end(Automaton(reversed(_tokens(pattern))).ends(value[::-1]), longest=longest)
    return value if end is None else value[: len(value) - end]


def replace(value: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
    """The longest match of the leftmost place replaced, or ``everywhere`` all that do not overlap; raises ``BadPattern``.

    As BuildKit has it, a replacement ``everywhere`` goes through Go's regexp.Expand: ``$0`` in it is what matched, other
    groups are empty and ``$$`` is a dollar.
    """
    tokens = _tokens(pattern)
    parts, done = [], 0
    for start, end in _matches(value, tokens):
        parts += [value[done:start], _with_groups(replacement, value[start:end]) if everywhere else replacement]
        done = end
        if not everywhere:
            break
    return "".join([*parts, value[done:]])


def _matches(value: str, tokens: list[Token]) -> Iterator[tuple[int, int]]:
    forward = Automaton(tokens)
    length = len(value)
    starts = sorted(length - end for end in Automaton(reversed(tokens)).anywhere(value[::-1]))
    after, empty_allowed = 0, True
    for start in starts:
        if start < after:
            continue
        end = _end(forward.ends(value, start), longest=True)
        if end is None or (end == start == after and not empty_allowed):
            continue
        yield start, end
        after, empty_allowed = end, end == start


def _end(ends: Iterator[int], *, longest: bool) -> int | None:
    if not longest:
        return next(ends, None)
    last = None
    for end in ends:
        last = end
    return last


def _with_groups(replacement: str, matched: str) -> str:
    if "$" not in replacement:
        return replacement

    def group(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return matched if (match[1] or match[2]) == "0" else ""

    return _GROUP.sub(group, replacement)


def _tokens(pattern: str) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            if not tokens or not isinstance(tokens[-1], Many):
                tokens.append(Many(_NEWLINE))
        elif char == "?":
            tokens.append(One(_NEWLINE))
        elif char == "\\":
            escaped = pattern[position : position + 1]
            if escaped not in {"*", "?", "\\", "}", "/"}:
                raise BadPattern(f"invalid escape '\\{escaped or '�'}'")
            position += 1
            tokens.append(Char(escaped))
        else:
            tokens.append(Char(char))
    return tokens
