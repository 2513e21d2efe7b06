"""Ends what runs of Cove, before the files of its programs are replaced or removed. Status 3: a machine does not stop."""

from __future__ import annotations

import contextlib
import subprocess
import sys

from cove.dashboard import launch as dashboard
from cove.dashboard import places
from cove.errors import CoveError
from cove.machine import lifecycle
from cove.tray import launch as tray

RUNS_ON = 3
STOP_S = 180


def main() -> int:
    for shown, end in ((places.served(), dashboard.end), (tray.shown(), tray.end)):
        for name in shown:
            with contextlib.suppress(CoveError):  # the installer sees that it runs on
                end(name)
    stopped = [_stop(name) for name in lifecycle.names()]
    return 0 if all(stopped) else RUNS_ON


def _stop(name: str) -> bool:
    words = [sys.executable, "-m", "cove", "machine", "stop", name]
    try:
        return subprocess.run(words, stdin=subprocess.DEVNULL, timeout=STOP_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


sys.exit(main())
