"""How a machine's VM, or its engine, ended last without being told to: kept on disk until the next time, whoever came meanwhile."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cove.machine.files import write_whole
from cove.machine.paths import MachinePaths

What = Literal["VM", "engine"]
COUNTED_S = 30 * 86400.0
"""Crashes are counted for so long."""
MOST = 100
"""Of those that are counted."""
FRESH_S = 86400.0
"""So long does `status` tell of the last one."""


@dataclass(frozen=True, slots=True)
class Crash:
    """The last one. `at` in seconds since the epoch; `how` and last `words` as they are told; `boot_id` of the run."""

    what: str
    at: float
    how: str
    words: tuple[str, ...]
    boot_id: str
    times: tuple[float, ...]
    """When it happened, this time included, within `COUNTED_S`."""

    @property
    def is_fresh(self) -> bool:
        return time.time() - self.at < FRESH_S

    @property
    def count(self) -> int:
        """How often, until now."""
        return len(_recent(self.times))

    def see(self, paths: MachinePaths) -> str:
        """The command that shows what was said."""
        if self.what == "engine":
            return f"cove machine ssh -m {paths.name} 'tail -50 /var/lib/cove/log/engine.log'"
        return f"cove machine logs {paths.name}"

    def shown(self, paths: MachinePaths) -> dict[str, Any]:
        """As `status --json` has it."""
        return {
            "what": self.what, "at": self.at, "how": self.how, "words": [*self.words], "count": self.count,
            "text": str(self), "see": self.see(paths),
        }  # fmt: skip

    def __str__(self) -> str:
        day = "" if time.localtime(self.at)[:3] == time.localtime()[:3] else "%Y-%m-%d "
        at = time.strftime(f"{day}%H:%M", time.localtime(self.at))
        again = f", {self.count} times within 30 days" if self.count > 1 else ""
        return f"the {self.what} ended by itself at {at}: {self.how}{again}"


def note(
    paths: MachinePaths, what: What, how: str, words: Sequence[str], boot_id: str, at: float | None = None
) -> None:
    """The end of a VM is noted once, whoever sees it. Never fails: what it is about is worse."""
    at = time.time() if at is None else at
    if what == "VM" and is_noted(paths, boot_id):
        return
    before = load(paths)
    times = [*_recent(before.times if before is not None else ()), at][-MOST:]
    told = {"what": what, "at": at, "how": how, "words": [*words], "boot_id": boot_id, "times": times}
    with contextlib.suppress(OSError):
        write_whole(paths.crash, json.dumps(told).encode())


def is_noted(paths: MachinePaths, boot_id: str) -> bool:
    """Whether somebody has seen that the VM of this run has ended by itself."""
    last = load(paths)
    return last is not None and (last.what, last.boot_id) == ("VM", boot_id)


def load(paths: MachinePaths) -> Crash | None:
    """The last one; None when there was none, or what is there cannot be read."""
    try:
        told = json.loads(paths.crash.read_text("utf-8"))
        return Crash(
            str(told["what"]), float(told["at"]), str(told["how"]), tuple(map(str, told["words"])),
            str(told["boot_id"]), tuple(map(float, told["times"])),
        )  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError):
        return None


def changed_last(*logs: Path) -> float | None:
    """When a VM whose end nobody saw said something last."""
    times = []
    for log in logs:
        with contextlib.suppress(OSError):
            times.append(log.stat().st_mtime)
    return max(times, default=None)


def computer_began() -> float:
    """When this computer was switched on, in seconds since the epoch; its sleep counts as running."""
    if sys.platform == "linux":
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":  # time.monotonic() stands still there while it sleeps
        return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.time() - time.monotonic()


def _recent(times: Sequence[float]) -> list[float]:
    return [one for one in times if time.time() - one < COUNTED_S]
