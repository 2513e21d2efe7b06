"""Parts of a text, one after another: a database of a stranger's may have millions, of which the first suffice."""

from __future__ import annotations

import re
from collections.abc import Iterator

_BLANK = re.compile(r"\n[ \t\r]*\n")
_LINE = re.compile(r"[^\n]+")


def stanzas(text: str) -> Iterator[str]:
    """What stands between blank lines."""
    start = 0
    for blank in _BLANK.finditer(text):
        yield text[start : blank.start()]
        start = blank.end()
    yield text[start:]


def lines(text: str) -> Iterator[str]:
    """Those that are not empty."""
    return (found[0] for found in _LINE.finditer(text))
