"""Whether a version is affected, by OSV's rules (ossf.github.io/osv-schema, "Evaluation")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any

from cove.vulnerabilities.versions import Compare, comparison


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fixed` are the versions in which it is mended, from this one on, the next first; `undecided` when a version in the entry, or the
    package's own, cannot be compared, and nothing else has said that it is affected.
    """

    affected: bool
    fixed: tuple[str, ...] = ()
    undecided: bool = False


def judge(kind: str, version: str, ranges: Iterable[Mapping[str, Any]], versions: Iterable[str]) -> Verdict:
    hit = undecided = False
    fixed: list[str] = []
    for each in ranges:
        if each.get("type") not in ("SEMVER", "ECOSYSTEM"):
            continue  # GIT: commits of a repository, which an image does not have
        compare = comparison(kind, str(each["type"]))
        try:
            found, until = _in_range(version, each.get("events") or (), compare)
        except (ValueError, TypeError):
            undecided = True
            continue
        hit = hit or found
        fixed += until if found else ()
    if not hit and _listed(kind, version, versions):
        hit = True
    compare = comparison(kind)
    try:
        ordered = sorted(dict.fromkeys(fixed), key=cmp_to_key(compare))
    except ValueError:
        ordered = list(dict.fromkeys(fixed))
    return Verdict(hit, tuple(ordered), undecided and not hit)


def _listed(kind: str, version: str, versions: Iterable[str]) -> bool:
    if version in (listed := list(versions)):
        return True
    if kind != "pypi":
        return False
    return any(_same(each, version) for each in listed)


def _same(left: str, right: str) -> bool:
    """Whether two versions of Python's are one, written in two ways (1.0 and 1.0.0)."""
    try:
        return comparison("pypi")(left, right) == 0
    except ValueError:
        return False


def _in_range(version: str, events: Iterable[Mapping[str, str]], compare: Compare) -> tuple[bool, list[str]]:
    """Whether it is, and in which versions after it the range ends with a fix."""
    timeline: list[tuple[str, str]] = []
    limits: list[str] = []
    for event in events:
        for what, at in event.items():
            if what == "limit":
                limits.append(at)
            elif what in ("introduced", "fixed", "last_affected"):
                timeline.append((what, at))
    if limits and not any("*" in limit or compare(version, limit) < 0 for limit in limits):
        return False, []

    def earlier(one: tuple[str, str], other: tuple[str, str]) -> int:
        first = [_is_start(each) for each in (one, other)]
        if any(first):
            return first[1] - first[0]
        # A version that is fixed and introduced anew at once is affected from then on.
        return compare(one[1], other[1]) or (one[0] == "introduced") - (other[0] == "introduced")

    affected = False
    for what, at in sorted(timeline, key=cmp_to_key(earlier)):
        if what == "introduced":
            affected = affected or at == "0" or compare(version, at) >= 0
        elif what == "fixed":
            affected = affected and compare(version, at) < 0
        else:
            affected = affected and compare(version, at) <= 0
    return affected, [at for what, at in timeline if what == "fixed" and compare(at, version) > 0] if affected else []


def _is_start(event: tuple[str, str]) -> bool:
    return event == ("introduced", "0")
