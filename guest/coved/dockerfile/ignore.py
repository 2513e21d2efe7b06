""".dockerignore: what of a context stays behind (docs.docker.com/build/concepts/context, ".dockerignore files").

The patterns are matched as moby's patternmatcher does: the last one that a path, or a folder it is in, matches decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby

from coved.dockerfile.automaton import Automaton, Char, Folders, Many, One, OneOf, Token
from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.text import SPACE
from coved.dockerfile.wildcards import clean, tokens

_BOM = "\ufeff"
_SLASH = Char("/")
_STAR = Many("/")
_ANYTHING = Many("")
_HERE = "(?=/|\\Z)"
"""A pattern that a folder matches is matched by all in it as well."""


def read_ignore(data: bytes) -> list[str]:
    """The patterns of a .dockerignore file: cleaned, without comments, relative to the context."""
    patterns = []
    for line in data.decode("utf-8", "replace").removeprefix(_BOM).split("\n"):
        if line.startswith("#") or not line.strip(SPACE):
            continue
        pattern = line.strip(SPACE)
        negated = pattern.startswith("!")
        pattern = pattern[negated:].strip(SPACE)
        if pattern:
            pattern = clean(pattern)
            pattern = pattern[1:] if len(pattern) > 1 and pattern.startswith("/") else pattern
        patterns.append("!" * negated + pattern)
    return patterns


class Matcher:
    """Raises ``DockerfileError`` for a pattern that is none. Paths are relative to the context, with slashes, and clean."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns: list[str] = []
        parsed = []
        for text in patterns:
            pattern = text.strip(SPACE)
            if not pattern:
                continue
            pattern = clean(pattern)
            if pattern == "!":
                raise DockerfileError('illegal exclusion pattern: "!"')
            self.patterns.append(pattern)
            keeps = pattern.startswith("!")
            parsed.append((keeps, tokens(pattern[keeps:], deep=True)))
        runs = groupby(parsed, key=lambda item: item[0])
        self._runs = [_Run(keeps, [found for _, found in items]) for keeps, items in runs]
        self._runs.reverse()

    @property
    def exclusions(self) -> bool:
        """Whether there are patterns with an exclamation mark, which take paths back."""
        return any(run.keeps for run in self._runs)

    def matches(self, path: str) -> bool:
        """Whether the path is left out."""
        if path == ".":
            return False
        for run in self._runs:
            if run.matches(path):
                return not run.keeps
        return False

    def may_skip(self, directory: str) -> bool:
        """Whether the directory is left out with everything that can be in it."""
        if directory == ".":
            return False
        for run in self._runs:
            if run.matches(directory):
                return not run.keeps
            if run.keeps and run.may_match_below(directory):
                return False
        return False


class _Run:
    """Patterns that follow each other and all leave out, or all keep: whichever of them matches, the outcome is the same."""

    def __init__(self, keeps: bool, patterns: Sequence[list[Token]]) -> None:
        self.keeps = keeps
        self._patterns = patterns
        simple = [found for found in patterns if _is_simple(found)]
        self._simple = re.compile("|".join(map(_expression, simple)), re.DOTALL) if simple else None
        self._others = [Automaton(found) for found in patterns if not _is_simple(found)]

    def matches(self, path: str) -> bool:
        if self._simple and self._simple.match(path):
            return True
        return any(_or_parent(other, path) for other in self._others)

    def may_match_below(self, directory: str) -> bool:
        return any(automaton.may_begin_with(directory + "/") for automaton in self._automata)

    @cached_property
    def _automata(self) -> list[Automaton]:
        return [Automaton(found) for found in self._patterns]


def _or_parent(automaton: Automaton, path: str) -> bool:
    return any(end == len(path) or path[end] == "/" for end in automaton.ends(path))


def _is_simple(found: Sequence[Token]) -> bool:
    """Whether ``**`` stands only for whole folders, and for anything only at an end.

    Then the leftmost match of each part between them is as good as any other, and the expression need not go back.
    """
    for before, token in zip([_SLASH, *found], found, strict=False):
        if isinstance(token, Folders) and before not in (_SLASH, Folders()):
            return False
    return _ANYTHING not in found[:-1]


def _expression(found: Sequence[Token]) -> str:
    parts: list[list[Token]] = [[]]
    for token in found:
        if isinstance(token, Folders):
            parts.append([])
        else:
            parts[-1].append(token)
    *others, last = map(_part, parts)
    if not others:
        return last
    first, *middle = others
    return "".join([first, *(f"(?>(?:[^/]*/)*?{part})" for part in middle), f"(?:[^/]*/)*?{last}"])


def _part(found: Sequence[Token]) -> str:
    """An expression for what has no ``**`` within it; a part ends with a folder or with the path."""
    open_end = bool(found) and found[-1] == _ANYTHING
    segments: list[list[Token]] = [[]]
    for token in found[:-1] if open_end else found:
        if token == _SLASH:
            segments.append([])
        else:
            segments[-1].append(token)
    expression = "/".join(map(_segment, segments))
    return expression if open_end or not found or found[-1] == _SLASH else expression + _HERE


def _segment(found: Sequence[Token]) -> str:
    pieces = [""]
    for token in found:
        if token == _STAR:
            pieces.append("")
        else:
            pieces[-1] += _token(token)
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    return "".join([first, *(f"(?>[^/]*?{piece})" for piece in middle), f"[^/]*{last}"])


def _token(token: Token) -> str:
    match token:
        case Char():
            return re.escape(token.char)
        case One():
            return "[^/]"
        case OneOf():
            ranges = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in token.ranges if low <= high)
            return f"(?!/)[{'^' if token.negated else ''}{ranges}]" if ranges else ("[^/]" if token.negated else "(?!)")
        case _:
            raise AssertionError(token)
