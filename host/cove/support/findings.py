"""What a check has found, and running many checks, each within its bound of time."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cove.errors import CoveError
from cove.machine import effective, ownership
from cove.machine.paths import DEFAULT_MACHINE, MachinePaths
from cove.machine.settings import Settings

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"
STATES = (OK, NOTE, WARNING, PROBLEM)
"""In order, nothing to do; told, nothing to do; works, but not well; does not work."""

Found = Iterable[tuple[str, str] | tuple[str, str, str]]
"""What a check yields: state, text, and fix where there is one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`text` is what is so, `fix` what to do about it ("" for nothing)."""

    check: str
    state: str
    text: str
    fix: str = ""

    def shown(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Check:
    """`bound_s` is how long it may take."""

    name: str
    look: Callable[[], Found]
    bound_s: float = 5.0


def run(checks: Sequence[Check]) -> Iterator[Finding]:
    """The findings of all checks, which run at the same time, in the order of the checks.

    A check that does not end in time, or fails itself, is a finding too: nothing keeps the others from being told. Its thread is
    left behind; it ends with the process.
    """
    begin = time.monotonic()  # of all of them: what has hung while others were waited for gets no more time at its turn
    running = [(check, _start(check)) for check in checks]
    for check, results in running:
        seen = False
        while True:
            try:
                item = results.get(timeout=max(0.0, begin + check.bound_s - time.monotonic()))
            except queue.Empty:
                yield Finding(
                    check.name, WARNING, f"this could not be found out within {check.bound_s:.0f} s",
                    "the computer may be very busy; once more: cove diagnose",
                )  # fmt: skip
                break
            if item is None:
                if not seen:
                    yield Finding(check.name, OK, "nothing to tell")
                break
            seen = True
            yield item


def _start(check: Check) -> queue.SimpleQueue[Finding | None]:
    results: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            for found in check.look():
                results.put(Finding(check.name, *found))
        except Exception as error:
            # A broken thing may break its check in ways nobody thought of, and then that is what was found.
            results.put(_failed(check, error))
        results.put(None)

    with contextlib.suppress(RuntimeError):
        threading.Thread(target=work, name=f"check {check.name}", daemon=True).start()
    return results


def _failed(check: Check, error: Exception) -> Finding:
    if isinstance(error, PermissionError) and (told := ownership.refusal(error)) is not None:
        return Finding(check.name, PROBLEM, told.message, told.hint)
    return Finding(check.name, WARNING, f"this check failed: {type(error).__name__}: {error}")


def settings_of(paths: MachinePaths) -> Settings:
    """Those in force, or the defaults where there are none or they are broken: another check tells of that."""
    try:
        return effective.load(paths.settings)
    except CoveError:
        return Settings()


def cove_of(paths: MachinePaths) -> str:
    """What a command about this machine begins with."""
    usual = paths.name == DEFAULT_MACHINE == (os.environ.get("COVE_MACHINE") or DEFAULT_MACHINE)
    return "cove" if usual else f"cove -m {paths.name}"


def count(findings: Iterable[Finding], state: str) -> int:
    return sum(1 for each in findings if each.state == state)
