""".dockerignore: what of a context stays behind (docs.docker.com/build/concepts/context, ".dockerignore files").

The patterns are matched as moby's patternmatcher does on its way down a tree: the last one that a path, or a folder it is in,
matches decides. A pattern is asked only where it would change something, so one that takes back what is not left out says
nothing of what is below.
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
        self._known = {"": 0}

    @property
    def exclusions(self) -> bool:
        """Whether there are patterns with an exclamation mark, which take paths back."""
        return any(run.keeps for run in self._runs)

    def matches(self, path: str) -> bool:
        """Whether the path is left out."""
        last = self._matched(path).bit_length()
        return path != "." and last > 0 and not self._runs[last - 1].keeps

    def may_skip(self, directory: str) -> bool:
        """Whether the directory is left out with everything that can be in it."""
        if not self.matches(directory):
            return False
        last = self._matched(directory).bit_length()
        return not any(run.keeps and run.may_match_below(directory) for run in self._runs[last:])

    def _matched(self, path: str) -> int:
        """A bit for each run of patterns that the path or a folder that it is in matches."""
        folder, _, _ = path.rpartition("/")
        above = self._known.get(folder)
        if above is None:
            above = self._known[folder] = self._matched_above(folder)
        return self._step(path, above)

    def _matched_above(self, folder: str) -> int:
        """For a folder that is not known yet: from the nearest one that is, for paths may be deeper than calls can be."""
        end = len(folder)
        while (end := folder.rfind("/", 0, end)) > 0 and folder[:end] not in self._known:
            pass
        matched = self._known.get(folder[: max(end, 0)], 0)
        while end < len(folder):
            end = folder.find("/", end + 1)
            end = len(folder) if end < 0 else end
            matched = self._known[folder[:end]] = self._step(folder[:end], matched)
        return matched

    def _step(self, path: str, above: int) -> int:
        matched = 0
        out = False
        for bit, run in enumerate(self._runs):
            if above >> bit & 1 or (run.keeps == out and run.matches(path)):
                matched |= 1 << bit
                out = not run.keeps
        return matched


class _Run:
    """Patterns that follow each other and all leave out, or all keep: whichever of them matches, the outcome is the same."""

    def __init__(self, keeps: bool, patterns: Sequence[list[Token]]) -> None:
        self.keeps = keeps
        self._patterns = patterns
        simple = [found for found in patterns if is_simple(found)]
        self._simple = re.compile("|".join(expression(found, r"\Z") for found in simple), re.DOTALL) if simple else None
        self._others = [Automaton(found) for found in patterns if not is_simple(found)]

    def matches(self, path: str) -> bool:
        if self._simple and self._simple.match(path):
            return True
        return any(other.matches(path) for other in self._others)

    def may_match_below(self, directory: str) -> bool:
        return any(automaton.may_begin_with(directory + "/") for automaton in self._automata)

    @cached_property
    def _automata(self) -> list[Automaton]:
        return [Automaton(found) for found in self._patterns]
