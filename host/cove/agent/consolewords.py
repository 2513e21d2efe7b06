"""What a guest said last on its console, as far as it bears on its end."""

from __future__ import annotations

import re
from pathlib import Path

from cove.machine.files import tail

_A_CONTAINERS_OWN = "Memory cgroup out of memory:"
"""The kernel has ended a process of a container that was over its limit: that is told of the container, and ends no machine."""

_ENGINES_END = re.compile(r"cove: (engine ended with status .*); starting it again")
"""What the guest's PID 1 says of an engine that could not start."""

_ENGINE_DIED = re.compile(r"cove: the engine has died \((.*?)\)")
"""What its supervisor says of one that ran."""

_GAVE_UP = re.compile(r"cove: cannot go on: (.*)")
"""What it says before it powers off."""


def size(console: Path) -> int:
    """Where a run that starts now will begin in the file, which is appended to."""
    try:
        return console.stat().st_size
    except OSError:
        return 0


def of_run(console: Path, begin: int, lines: int) -> list[str]:
    """At most the last `lines` lines that the run said which began at byte `begin`. Raises `OSError`."""
    grown = size(console) - begin
    # It was begun anew when it is shorter: it is cut when it has grown too long.
    said = tail(console, 1000, min(grown, 64 * 1024) if grown >= 0 else 64 * 1024)
    return [line for line in said if line.strip() and _A_CONTAINERS_OWN not in line][-lines:]


def engines_end(lines: list[str]) -> str:
    """Why the engine ended last, as far as these lines tell; "" when they do not."""
    return next((found[1] for line in reversed(lines) if (found := _ENGINES_END.search(line))), "")


def engine_died(lines: list[str]) -> str:
    """Of what it died, as far as these lines tell; "" when they do not."""
    return next((found[1] for line in reversed(lines) if (found := _ENGINE_DIED.search(line))), "")


def gave_up(lines: list[str]) -> str:
    """Why the guest powers off, as far as these lines tell; "" when they do not."""
    return next((found[1] for line in reversed(lines) if (found := _GAVE_UP.search(line))), "")
