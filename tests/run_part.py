"""One part of the tests (`vm`, `host` or `smoke`), as `make test` runs it: beside another part, on a computer that has no core to spare.

A few tests that failed there are run anew, three times in a row, each of them again from its beginning, and all three MUST pass: a test
that fails because of what it tests fails again, one that the crowd has upset does not. It is never silent: what happened is told last,
and is to be looked at like any failure (docs/decisions/0053). For `smoke` there is no time for that: it is over after a limit of its own.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FEW = 4
"""With more failures than these something is broken."""
TIMES = 3
LIMIT_S = 400.0
"""For running them once."""
SMOKE_S = 720.0
"""For the tests of other platforms: what the whole of CI leaves them (docs/decisions/0062)."""
CLEANED_S = 60.0
"""Within which an interrupted pytest has ended its machine."""


def main(part: str) -> int:
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is pytest's, which cleans up and ends
    cache = ROOT / f"build/pytest-{part}"
    options = [f"--part={part}", "-o", f"cache_dir={cache}"]
    if part == "smoke":
        return pytest([*options, "tests/platforms"], SMOKE_S)
    kept = cache / "v/cache/lastfailed"
    kept.unlink(missing_ok=True)
    if (status := pytest(options)) != 1:
        return status
    failed = list(json.loads(kept.read_text()))
    if len(failed) > FEW:
        return status
    for time in range(1, TIMES + 1):
        print(f"\nThese failed and are run again, {time} of {TIMES}:", *failed, sep="\n  ", flush=True)
        if status := pytest([*options, *failed], LIMIT_S):
            return status
    print(f"\nTO BE LOOKED AT: failed once, then passed {TIMES} times in a row:", *failed, sep="\n  ", flush=True)
    return 0


def pytest(options: list[str], limit: float | None = None) -> int:
    """Its exit status; `limit` in seconds."""
    with subprocess.Popen([Path(sys.executable).with_name("pytest"), *options], cwd=ROOT) as run:
        try:
            return run.wait(limit)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)
        try:
            return run.wait(CLEANED_S) or 1
        except subprocess.TimeoutExpired:
            run.kill()
            return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
