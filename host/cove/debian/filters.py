"""Which files of packages are left out, by dpkg's own rules (dpkg(1), --path-exclude): the last pattern that matches decides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property


@dataclass(frozen=True)
class PathFilter:
    """Patterns of absolute paths, in which `*` crosses slashes. What `include` matches stays whatever `exclude` matches."""

    exclude: Sequence[str] = ()
    include: Sequence[str] = ()

    def drops(self, path: str) -> bool:
        """Whether `path`, relative to the root, is left out."""
        absolute = f"/{path}"
        return self._excluded.fullmatch(absolute) is not None and self._included.fullmatch(absolute) is None

    @cached_property
    def _excluded(self) -> re.Pattern[str]:
        return _any(self.exclude)

    @cached_property
    def _included(self) -> re.Pattern[str]:
        return _any(self.include)

    def configuration(self) -> str:
        """The same for dpkg.cfg.d, so that packages installed later are treated alike."""
        lines = [f"path-exclude {pattern}" for pattern in self.exclude] + [f"path-include {p}" for p in self.include]
        return "".join(f"{line}\n" for line in lines)


def _any(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)")


SLIM = PathFilter(
    exclude=(
        "/usr/share/doc/*",
        "/usr/share/info/*",
        "/usr/share/linda/*",
        "/usr/share/lintian/overrides/*",
        "/usr/share/locale/*",
        "/usr/share/man/*",
        "/usr/share/gnome/help/*/*",
        "/usr/share/omf/*/*-*.emf",
    ),
    include=(
        "/usr/share/doc/*/copyright",
        "/usr/share/doc/kde/HTML/C/*",
        "/usr/share/gnome/help/*/C/*",
        "/usr/share/locale/all_languages",
        "/usr/share/locale/currency/*",
        "/usr/share/locale/l10n/*",
        "/usr/share/locale/languages",
        "/usr/share/locale/locale.alias",
        "/usr/share/omf/*/*-C.emf",
    ),
)
"""What the -slim images on Docker Hub leave out: documentation and translations, but no licence."""
NOTHING = PathFilter()
KEPT_DIRECTORIES = re.compile(r"usr/share/man/man[0-9]")
"""Directories that are there though all in them is left out: maintainer scripts make links in them (update-alternatives)."""
