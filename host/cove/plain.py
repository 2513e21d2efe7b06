"""Text that somebody else has written (a guest, another computer, a manifest), as a terminal may have it."""

from __future__ import annotations


def printable(text: str, also: str = "") -> str:
    """Without what a terminal would do: colours, a title, lines written over. ``also`` stays, such as "\\n"."""
    return "".join(one if one.isprintable() or one in also else "?" for one in text)
