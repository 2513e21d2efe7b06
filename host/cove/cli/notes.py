"""Remarks that docker makes beside a command's own output, in color on a terminal."""

from __future__ import annotations

from typing import IO

from cove.cli import terminal

_PLAIN = " Info -> "
_FANCY = "\x1b[1m\x1b[106m\x1b[30mi\x1b[0m\x1b[0m \x1b[96mInfo → \x1b[0m\x1b[0m"


def note(out: IO[str], text: str) -> None:
    """Print `text`, each line beneath the first."""
    fancy = terminal.is_terminal(out.fileno())
    if fancy:
        text = text.replace("--platform", "\x1b[1m--platform\x1b[0m")
    lines = [f"\x1b[3m{line}\x1b[0m" if fancy else line for line in text.split("\n")]
    indent = " " * len(_PLAIN)
    out.write("\n" + (_FANCY if fancy else _PLAIN) + f"\n{indent}".join(lines) + "\n")
    out.flush()
