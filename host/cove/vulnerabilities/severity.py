"""How bad a vulnerability is, by what its entry says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Level(IntEnum):
    """CVSS' qualitative scale, and `UNKNOWN`, which is below all else."""

    UNKNOWN = 0
    NONE = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True, order=True)
class Severity:
    """`score` is CVSS', where a vector gave one."""

    level: Level
    score: float | None = None


UNKNOWN = Severity(Level.UNKNOWN)
THRESHOLDS = ("low", "medium", "high", "critical")
_LEAST = ((9.0, Level.CRITICAL), (7.0, Level.HIGH), (4.0, Level.MEDIUM), (0.1, Level.LOW))
_WORDS = {
    "negligible": Level.LOW,
    "unimportant": Level.LOW,
    "low": Level.LOW,
    "moderate": Level.MEDIUM,
    "medium": Level.MEDIUM,
    "important": Level.HIGH,
    "high": Level.HIGH,
    "critical": Level.CRITICAL,
}
_UBUNTU = "Ubuntu"
_MALICIOUS = "MAL-"
"""Entries of OpenSSF's list of malicious packages, which give no severity: the package itself is the attack."""


def of(identifier: str, scores: Iterable[Any], words: Iterable[Any]) -> Severity:
    """`scores` are OSV's `severity`, `words` what a database says in its own fields; the highest score counts, and the highest word where
    there is none.
    """
    stated = [each for each in scores if isinstance(each, Mapping)]
    best = [found for each in stated if (found := _scored(each))]
    if best:
        return max(best, key=_order)
    # Ubuntu's priority stands among the scores.
    said = [*words, *(each.get("score") for each in stated if each.get("type") == _UBUNTU)]
    named = [Severity(level) for word in said if (level := _WORDS.get(str(word).lower()))]
    if named:
        return max(named, key=_order)
    return Severity(Level.CRITICAL) if identifier.startswith(_MALICIOUS) else UNKNOWN


def highest(severities: Iterable[Severity]) -> Severity:
    return max(severities, key=_order, default=UNKNOWN)


def _order(severity: Severity) -> tuple[Level, float]:
    return severity.level, severity.score or 0.0


def _scored(stated: Mapping[str, Any]) -> Severity | None:
    """None for a kind of score that is not known, or a vector that is wrong."""
    kind, text = str(stated.get("type")), str(stated.get("score"))
    if not kind.startswith("CVSS_"):
        return None
    from cvss import CVSS2, CVSS3, CVSS4
    from cvss.exceptions import CVSSError

    try:
        if kind == "CVSS_V4":
            score = float(CVSS4(text).base_score)
        elif kind == "CVSS_V3":
            score = float(CVSS3(text).base_score)
        else:
            score = float(CVSS2(text).base_score)
    except (CVSSError, ValueError, ArithmeticError):
        return None
    return Severity(next((level for least, level in _LEAST if score >= least), Level.NONE), score)
