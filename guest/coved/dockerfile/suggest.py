"""The word somebody meant who wrote one that does not exist."""

from __future__ import annotations

from collections.abc import Iterable

_NEAR = 3
"""Edits from which on a word is another word."""
_LONGEST = 200
"""Of texts that are compared; nobody meant a name when they wrote more."""


def nearest(word: str, known: Iterable[str], *, any_case: bool = False) -> str:
    """The known word at most two edits away, in the case of ``word``; "" for none, or when it is one itself."""
    wanted = word.lower() if any_case else word
    best, distance = "", _NEAR
    for candidate in known:
        other = candidate.lower() if any_case else candidate
        if other == wanted:
            return ""
        found = _edits(wanted, other)
        if found < distance:
            best, distance = other, found
    if any_case and best and word != word.lower() and word == word.upper():
        return best.upper()
    return best


def did_you_mean(message: str, word: str, known: Iterable[str], *, any_case: bool = False) -> str:
    """The message, with the nearest known word behind it if there is one."""
    meant = nearest(word, known, any_case=any_case)
    return f"{message} (did you mean {meant}?)" if meant else message


def _edits(left: str, right: str) -> int:
    """Levenshtein's distance, as far as it matters here."""
    if abs(len(left) - len(right)) >= _NEAR or len(left) > _LONGEST:
        return _NEAR
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
        if min(row) >= _NEAR:
            return _NEAR
    return row[-1]
