"""What a single file of a layer tells."""

from __future__ import annotations

from dataclasses import dataclass, field

from cove.contents.package import Distribution, Package

MAX_FINDINGS = 500_000
"""Packages, and files that tell of them, of all layers."""


@dataclass(frozen=True, slots=True)
class Findings:
    """`owned` are files that another package's list has: metadata of a language among them are of that package. `unread` says what it is
    that was not read.
    """

    packages: tuple[Package, ...] = ()
    distribution: Distribution | None = None
    owned: frozenset[str] = field(default=frozenset())
    unread: str = ""
