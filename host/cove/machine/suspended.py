"""A machine that is suspended: the state of its VM in a file, and beside it how that VM was started.

The state is used once. What tells of it is removed, for good, before the VM goes on, and before any other VM may write to the disk; and
it tells of the disk as it was, so that a disk that was put in its place meanwhile is found out.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass

from cove.machine import runstate
from cove.machine.files import sweep, sync_folder, write_whole
from cove.machine.paths import MachinePaths
from cove.machine.runstate import RunState


@dataclass(frozen=True, slots=True)
class Suspended:
    """How the VM was started, and the disk's size in bytes and time of change in nanoseconds, None until QEMU has ended, and where
    another hypervisor keeps state and disk together.

    `at` and `idle_since` in seconds since the epoch; the latter None when somebody asked for it.
    """

    run: RunState
    disk: tuple[int, int] | None
    at: float | None = None
    idle_since: float | None = None


def load(paths: MachinePaths) -> Suspended | None:
    """None when there is none, or none that can be read."""
    try:
        told = json.loads(paths.suspended_run.read_text("utf-8"))
        disk = tuple(told["disk"]) if told["disk"] else None
        return Suspended(runstate.parse(told["run"]), disk, told.get("at"), told.get("idle_since"))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def image(paths: MachinePaths) -> str:
    """The digest of the VM image that it goes on with, whatever else of the note can be read; "" when there is none."""
    try:
        return str(json.loads(paths.suspended_run.read_text("utf-8"))["run"]["image"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def note(paths: MachinePaths, run: RunState, *, ended: bool, idle_since: float | None = None) -> None:
    """The state is whole: from now on the machine is suspended. ``ended``: QEMU has, so that the disk is as it will be found.

    Raises `OSError`.
    """
    disk = _disk(paths) if ended and paths.disk.exists() else None
    told = {"run": asdict(run), "disk": disk, "at": time.time(), "idle_since": idle_since}
    write_whole(paths.suspended_run, json.dumps(told).encode())
    sync_folder(paths.folder)


def is_of_this_disk(paths: MachinePaths, found: Suspended) -> bool:
    return found.disk is None or found.disk == _disk(paths)


def forget(paths: MachinePaths) -> None:
    """For the agent alone. Raises `OSError` when the state may be found again."""
    paths.suspended_run.unlink(missing_ok=True)
    sweep(paths.suspended_run)
    sync_folder(paths.folder)
    for state in paths.folder.glob(f"{paths.suspended.name}*"):  # unfinished ones too
        with contextlib.suppress(OSError):
            state.unlink()


def _disk(paths: MachinePaths) -> tuple[int, int]:
    info = paths.disk.stat()
    return info.st_size, info.st_mtime_ns
