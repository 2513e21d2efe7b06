"""Versions of Alpine's packages: NUMBER{.NUMBER}[LETTER]{_SUFFIX[NUMBER]}[~HASH][-rNUMBER] (apk-package(5))."""

from __future__ import annotations

import re
from itertools import zip_longest

_VERSION = re.compile(
    r"(?P<first>\d+)(?P<more>(?:\.\d+)*)(?P<letter>[a-z]?)(?P<suffixes>(?:_[a-z]+\d*)*)(?P<hash>~[0-9a-f]+)?(?:-r(?P<revision>\d+))?"
)
_SUFFIX = re.compile(r"_([a-z]+)(\d*)")
_BEFORE = ("alpha", "beta", "pre", "rc")
_AFTER = ("cvs", "svn", "git", "hg", "p")
_FIRST, _MORE, _LETTER, _SUFFIX_NAME, _SUFFIX_NUMBER, _HASH, _REVISION, _END = range(8)
"""Kinds of parts. Of two versions that are equal up to here, the one that goes on with the earlier kind is the newer one."""

_Part = tuple[int, int | str]


def compare(left: str, right: str) -> int:
    """Negative, zero or positive. Raises `ValueError` for what is no version."""
    for one, other in zip_longest(_parts(left), _parts(right), fillvalue=(_END, 0)):
        if result := _compare_parts(one, other):
            return result
    return 0


def _compare_parts(left: _Part, right: _Part) -> int:
    (kind, value), (other_kind, other) = left, right
    if kind == other_kind:
        if kind == _MORE and (str(value)[0] == "0" or str(other)[0] == "0"):
            value, other = str(value), str(other)  # a fraction: 1.05 is before 1.5
        elif kind == _MORE:
            value, other = int(value), int(other)
        return (value > other) - (value < other)  # type: ignore[operator]  # of the same kind
    if kind == _SUFFIX_NAME and isinstance(value, int) and value < 0:
        return -1
    if other_kind == _SUFFIX_NAME and isinstance(other, int) and other < 0:
        return 1
    return other_kind - kind


def _parts(version: str) -> list[_Part]:
    found = _VERSION.fullmatch(version)
    if found is None:
        raise ValueError(f"no version of an apk package: {version!r}")
    parts: list[_Part] = [(_FIRST, int(found["first"]))]
    parts += [(_MORE, digits) for digits in found["more"].split(".")[1:]]
    if found["letter"]:
        parts.append((_LETTER, found["letter"]))
    for name, number in _SUFFIX.findall(found["suffixes"]):
        parts.append((_SUFFIX_NAME, _rank(name)))
        if number:
            parts.append((_SUFFIX_NUMBER, int(number)))
    if found["hash"]:
        parts.append((_HASH, found["hash"]))
    if found["revision"]:
        parts.append((_REVISION, int(found["revision"])))
    return parts


def _rank(suffix: str) -> int:
    """Below zero for what comes before the release. Raises `ValueError`."""
    if suffix in _BEFORE:
        return _BEFORE.index(suffix) - len(_BEFORE)
    return _AFTER.index(suffix)
