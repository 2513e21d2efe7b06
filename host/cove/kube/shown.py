"""Texts of manifests and clusters, which somebody else has written, as a terminal may have them."""

from __future__ import annotations

from cove.plain import printable


def shown(text: str) -> str:
    """Without what a terminal would do, but for lines and tabs."""
    return printable(text, "\n\t")
