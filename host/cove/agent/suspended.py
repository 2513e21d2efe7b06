"""A machine that was suspended: the state of its VM in a file, and beside it how that VM was started.

The state is used once. What tells of it is removed before the VM goes on, for from then on the disk is another one.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict

from cove.agent.runstate import RunState
from cove.machine.files import write_whole
from cove.machine.paths import MachinePaths


def load(paths: MachinePaths) -> RunState | None:
    """How the suspended VM was started; None when there is none."""
    try:
        return RunState(**json.loads(paths.suspended_run.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def note(paths: MachinePaths, run: RunState) -> None:
    """The state is whole: from now on the machine is suspended. Raises `OSError`."""
    write_whole(paths.suspended_run, json.dumps(asdict(run)).encode())


def forget(paths: MachinePaths) -> None:
    """Raises `OSError` when the state may be found again."""
    paths.suspended_run.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        paths.suspended.unlink()
