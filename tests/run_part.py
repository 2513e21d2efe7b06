"""One part of the tests (`vm`, `host`, `page`, `clients` or `smoke`), as `make test` runs it: beside another part, on a computer that has
no core to spare.

A few tests that failed there are run anew, three times in a row, each of them again from its beginning, and all three MUST pass: a test
that fails because of what it tests fails again, one that the crowd has upset does not. It is never silent: what happened is told last,
and is to be looked at like any failure (docs/decisions/0053). For `page`, `clients` and `smoke` there is no time for that: they are over
after limits of their own, and where CI would end before, it is told that one was not run, or not to its end (docs/decisions/0062).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FEW = 4
"""With more failures than these something is broken."""
TIMES = 3
LIMIT_S = 400.0
"""For running them once."""
CUT = -1
"""In place of the status of a pytest that its limit has ended."""
CLEANED_S = 60.0
"""Within which an interrupted pytest has ended its machine."""
MAKE = ("make", "--no-print-directory")


@dataclass(frozen=True)
class Short:
    """A short look at what has tests of its own: `needs` are commands that come first, `options` what pytest is told."""

    what: str
    target: str
    limit_s: float
    """With what it needs."""
    least_s: float
    """With less it is not begun."""
    needs: Sequence[Sequence[str]]
    options: Sequence[str]


SHORT = {
    "page": Short(
        "the dashboard's page", "test-dashboard-short", 600, 120, ((*MAKE, "build/page-packages"), (*MAKE, "check-page")),
        ("--part=dashboard", "--native", "-m", "short", "tests/dashboard"),
    ),
    "clients": Short(
        "other people's programs", "test-clients-short", 420, 120, ((*MAKE, "build/test-packages"), (*MAKE, ".venv/clients-stamp")),
        ("--part=clients", "--native", "-m", "short", "tests/clients"),
    ),
    "smoke": Short(
        "all tests of other platforms", "test-smoke", 720, 300, ((*MAKE, "build/smoke-packages"),), ("--part=smoke", "tests/platforms"),
    ),
}  # fmt: skip


def main(part: str) -> int:
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is pytest's, which cleans up and ends
    cache = ROOT / f"build/pytest-{part}"
    options = ["-o", f"cache_dir={cache}"]
    kept = cache / "v/cache/lastfailed"
    kept.unlink(missing_ok=True)
    if part in SHORT:
        return short(SHORT[part], options, kept)
    options.append(f"--part={part}")
    if (status := pytest(options)) != 1:
        return status
    failed = list(json.loads(kept.read_text()))
    if len(failed) > FEW:
        return status
    for run in range(1, TIMES + 1):
        print(f"\nThese failed and are run again, {run} of {TIMES}:", *failed, sep="\n  ", flush=True)
        if status := pytest([*options, *failed], LIMIT_S):
            return status
    print(f"\nTO BE LOOKED AT: failed once, then passed {TIMES} times in a row:", *failed, sep="\n  ", flush=True)
    return 0


def short(look: Short, options: list[str], kept: Path) -> int:
    """With COVE_TESTS_END, the second since 1970 at which CI ends, what fits. Only what that has cut is forgiven, not a hang."""
    end = float(os.environ.get("COVE_TESTS_END") or "inf")
    deadline = time.time() + look.limit_s
    forgiven = end < deadline
    deadline = min(deadline, end)
    try:
        if deadline - time.time() < look.least_s:
            raise subprocess.TimeoutExpired(look.what, 0)
        for command in look.needs:
            need(command, deadline - time.time())
        status = pytest([*look.options, *options], deadline - time.time())
        if status != CUT or not forgiven or kept.exists():
            return status
    except subprocess.TimeoutExpired as error:
        if not forgiven:
            print(error, flush=True)
            return 1
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    print(f"\nTO BE LOOKED AT: CI had no time for {look.what}: make {look.target}", flush=True)
    return 0


def need(command: Sequence[str], limit: float) -> None:
    """With all that it starts, which a group of its own tells from others. Raises TimeoutExpired, CalledProcessError."""
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as run:
        # Ctrl-C goes to the terminal's group alone.
        before = signal.signal(signal.SIGINT, lambda *_: os.killpg(run.pid, signal.SIGINT))
        try:
            status = run.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            raise
        finally:
            signal.signal(signal.SIGINT, before)
    if status:
        raise subprocess.CalledProcessError(status, command)


def pytest(options: list[str], limit: float | None = None) -> int:
    """Its exit status; `limit` in seconds. One that has to be killed has failed: what failed in it, it did not write down."""
    with subprocess.Popen([Path(sys.executable).with_name("pytest"), *options], cwd=ROOT) as run:
        try:
            return run.wait(limit)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)
        try:
            run.wait(CLEANED_S)
        except subprocess.TimeoutExpired:
            run.kill()
            return 1
        return CUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
