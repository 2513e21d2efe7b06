"""Semantic versions (semver.org, 2.0.0, section 11). A "v" in front and numbers that are left out at the end are forgiven."""

from __future__ import annotations

import re

_VERSION = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")

Key = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]


def key(version: str) -> Key:
    """What versions are ordered by. Raises `ValueError`."""
    found = _VERSION.fullmatch(version)
    if found is None:
        raise ValueError(f"no semantic version: {version!r}")
    major, minor, patch, before = found.groups(default="")
    # Numbers come before words, and a version with neither after all that have some.
    identifiers = tuple(
        (False, int(each), "") if each.isdigit() else (True, 0, each) for each in before.split(".") if before
    )
    return int(major), int(minor or 0), int(patch or 0), not before, identifiers


def compare(left: str, right: str) -> int:
    """Negative, zero or positive. Raises `ValueError`."""
    one, other = key(left), key(right)
    return (one > other) - (one < other)
