"""Texts of manifests and clusters, which somebody else has written, as a terminal may have them."""

from __future__ import annotations


def shown(text: str) -> str:
    """Without what a terminal would do: colours, a title, lines written over."""
    return "".join(one if one.isprintable() or one in "\n\t" else "?" for one in text)
