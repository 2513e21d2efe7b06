"""Colours, where somebody sees them: on a terminal, unless NO_COLOR (https://no-color.org) or TERM=dumb say no."""

from __future__ import annotations

import os
import sys
from typing import IO

CODES = {"green": "32", "yellow": "33", "red": "31", "bold": "1", "dim": "2"}


def paint(text: str, colour: str, stream: IO[str] | None = None) -> str:
    stream = stream or sys.stdout
    if colour not in CODES or not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{CODES[colour]}m{text}\033[0m"
