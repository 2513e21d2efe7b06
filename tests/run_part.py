"""One part of the tests (`vm`, `host` or `smoke`), as `make test` runs it: beside another part, on a computer that has no core to spare.

A few tests that failed there are run anew, three times in a row, each of them again from its beginning, and all three MUST pass: a test
that fails because of what it tests fails again, one that the crowd has upset does not. It is never silent: what happened is told last,
and is to be looked at like any failure (docs/decisions/0053). For `smoke` there is no time for that: it is over after a limit of its own,
and where CI would end before, it is told that it was not run, or not to its end (docs/decisions/0062).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FEW = 4
"""With more failures than these something is broken."""
TIMES = 3
LIMIT_S = 400.0
"""For running them once."""
SMOKE_S = 720.0
"""For the tests of other platforms, and what they need."""
LEAST_S = 300.0
"""With less they are not begun."""
CUT = -1
"""In place of the status of a pytest that its limit has ended."""
CLEANED_S = 60.0
"""Within which an interrupted pytest has ended its machine."""


def main(part: str) -> int:
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is pytest's, which cleans up and ends
    cache = ROOT / f"build/pytest-{part}"
    options = [f"--part={part}", "-o", f"cache_dir={cache}"]
    kept = cache / "v/cache/lastfailed"
    kept.unlink(missing_ok=True)
    if part == "smoke":
        return smoke([*options, "tests/platforms"], kept)
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


def smoke(options: list[str], kept: Path) -> int:
    """With COVE_TESTS_END, the second since 1970 at which CI ends, what fits."""
    end = os.environ.get("COVE_TESTS_END")
    deadline = min(time.time() + SMOKE_S, float(end) if end else float("inf"))
    try:
        if deadline - time.time() < LEAST_S:
            raise subprocess.TimeoutExpired("the tests of other platforms", 0)
        needs = ["make", "--no-print-directory", "build/smoke-packages"]
        subprocess.run(needs, cwd=ROOT, timeout=deadline - time.time(), check=True)
        status = pytest(options, deadline - time.time())
        if status != CUT or not end or kept.exists():
            return status
    except subprocess.TimeoutExpired:
        if not end:
            return 1
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    print("\nTO BE LOOKED AT: CI had no time for all tests of other platforms: make test-smoke", flush=True)
    return 0


def pytest(options: list[str], limit: float | None = None) -> int:
    """Its exit status; `limit` in seconds."""
    with subprocess.Popen([Path(sys.executable).with_name("pytest"), *options], cwd=ROOT) as run:
        try:
            return run.wait(limit)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)
        try:
            run.wait(CLEANED_S)
        except subprocess.TimeoutExpired:
            run.kill()
        return CUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
