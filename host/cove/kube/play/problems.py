"""What is wrong with a manifest, or cannot be done: all of it, each with its file and line."""

from __future__ import annotations

from dataclasses import dataclass, field

from cove.errors import CoveError
from cove.kube.shown import shown
from cove.plain import printable


@dataclass(frozen=True, slots=True, order=True)
class Place:
    file: str
    line: int

    def __str__(self) -> str:
        return printable(f"{self.file}:{self.line}")


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    place: Place
    text: str

    def __str__(self) -> str:
        return printable(f"{self.place}: {self.text}")


class ManifestError(CoveError):
    """A manifest that cannot be played."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(shown(message), hint)


@dataclass
class Problems:
    """`wrong` is refused by a cluster as well; `unsupported` is what this program cannot do; `notes` is what it does in another way."""

    wrong: list[Problem] = field(default_factory=list)
    unsupported: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def refuse(self, place: Place, text: str) -> None:
        self._add(self.wrong, place, text)

    def cannot(self, place: Place, text: str) -> None:
        self._add(self.unsupported, place, text)

    def note(self, place: Place, text: str) -> None:
        self._add(self.notes, place, text)

    def _add(self, problems: list[Problem], place: Place, text: str) -> None:
        problem = Problem(place, text)
        if problem not in problems:  # replicas are read from one template
            problems.append(problem)

    def check(self, *, ignore_unsupported: bool) -> None:
        """Raises `ManifestError` with all that there is."""
        told = sorted([*self.wrong, *([] if ignore_unsupported else self.unsupported)])
        if not told:
            return
        only_unsupported = not self.wrong
        hint = "leave it out, or play the rest without it: --ignore-unsupported" if only_unsupported else ""
        raise ManifestError("\n      ".join(["nothing was started:", *map(str, told)]), hint)
