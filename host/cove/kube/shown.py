"""Texts of manifests, clusters and containers, which somebody else has written, as a terminal may have them: without colours, a title,
lines written over, and without lines that look like Cove's own."""

from __future__ import annotations

from cove.plain import printable


def shown(text: str) -> str:
    """As it is, for a text of Cove's own lines."""
    return printable(text, "\n\t")


def inset(text: str) -> str:
    """Its further lines are set in below the first, which begins with Cove's own words."""
    return "\n  ".join(printable(line, "\t") for line in text.splitlines())
