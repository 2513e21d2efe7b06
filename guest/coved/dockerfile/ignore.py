""".dockerignore: what of a context stays behind (docs.docker.com/build/concepts/context, ".dockerignore files").

The patterns are matched as moby's patternmatcher does: the last one that a path, or a folder it is in, matches decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby

from coved.dockerfile.automaton import Automaton, Token
from coved.dockerfile.expressions import expression, is_simple
from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.text import SPACE
from coved.dockerfile.wildcards import clean, tokens

_BOM = "\ufeff"
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
        simple = [found for found in patterns if is_simple(found)]
        self._simple = re.compile("|".join(expression(found, _HERE) for found in simple), re.DOTALL) if simple else None
        self._others = [Automaton(found) for found in patterns if not is_simple(found)]

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
