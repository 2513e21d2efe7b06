"""Which of two versions is the newer one, by the rules of whoever made them."""

from __future__ import annotations

from collections.abc import Callable

from cove.vulnerabilities import apk_version, semver

Compare = Callable[[str, str], int]
"""Negative, zero or positive. Raises `ValueError` for what is no version there."""


def comparison(kind: str, range_type: str = "ECOSYSTEM") -> Compare:
    """That of packages of a kind (`Package.kind`), in ranges of OSV's of this type."""
    if range_type == "SEMVER" or kind == "npm":
        return semver.compare
    return {"deb": _debian, "apk": apk_version.compare, "pypi": _python}[kind]


def _debian(left: str, right: str) -> int:
    from cove.image.archive import compare_versions

    return compare_versions(left, right)


def _python(left: str, right: str) -> int:
    from packaging.version import Version  # its errors are `ValueError`s

    one, other = Version(left), Version(right)
    return (one > other) - (one < other)
