"""Where the processors of a VM are that does nothing any more, in the words of QEMU's monitor."""

from __future__ import annotations

from collections.abc import Iterable

COMMANDS = ("info status", "info registers -a")
MAX_CHARACTERS = 16_000
_NUMBERS = ("FCW", "FPR", "XMM", "YMM", "ZMM", "Opmask")
"""Begin the registers that programs calculate with: they tell nothing of where a processor is, and may hold what is secret."""


def shown(answers: Iterable[str]) -> str:
    """What is worth keeping of the answers to `COMMANDS`."""
    lines = (line.rstrip() for answer in answers for line in answer.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(_NUMBERS))[:MAX_CHARACTERS]
