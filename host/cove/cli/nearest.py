"""What a mistyped name may have been meant to be. Imported only when there is an error to tell."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 3


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Those of `known` that are few keystrokes away (one for the shortest names, else two), or go on where `name` ends; nearest first."""
    allowed = 1 if len(name) <= 3 else 2
    found = []
    for other in dict.fromkeys(known):
        steps = distance(name.lower(), other)
        if steps <= min(allowed, len(other) - 1):
            found.append((steps, other))
        elif len(name) > 1 and other.startswith(name.lower()):
            found.append((allowed + 1, other))
    return [other for _, other in sorted(found)[:MOST]]


def distance(one: str, other: str) -> int:
    """How many letters must be put in, left out, replaced or swapped with their neighbour to make the one into the other."""
    before: list[int] = []
    row: list[int] = [*range(len(other) + 1)]
    for index, letter in enumerate(one, 1):
        earlier, before, row = before, row, [index]
        for place, wanted in enumerate(other, 1):
            steps = min(before[place] + 1, row[-1] + 1, before[place - 1] + (letter != wanted))
            if index > 1 and place > 1 and (letter, one[index - 2]) == (other[place - 2], wanted):
                steps = min(steps, earlier[place - 2] + 1)
            row.append(steps)
    return row[-1]


def suggestion(name: str, known: Iterable[str]) -> str:
    """A paragraph for an error, "" when nothing is near."""
    found = nearest(name, known)
    which = "this" if len(found) == 1 else "one of these"
    return "".join([f"\n\nDid you mean {which}?", *(f"\n  {one}" for one in found)]) if found else ""
