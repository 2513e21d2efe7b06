"""What is known of a machine of which no agent tells."""

from __future__ import annotations

from typing import Any

from cove.agent import consolewords
from cove.drivers.qemu import lastwords
from cove.errors import SettingsError
from cove.machine import crashes, remote, runstate, suspended
from cove.machine.paths import MachinePaths
from cove.machine.running import vm_may_run


def state(paths: MachinePaths) -> str:
    """ "running", "starting", "suspended" or "stopped", as the machine's files tell, without a question to anybody."""
    if not vm_may_run(paths):
        return "suspended" if paths.suspended_run.exists() else "stopped"
    return "starting" if paths.down.exists() else "running"


def status(paths: MachinePaths, *, looked: bool = False) -> dict[str, Any]:
    """The status of a machine of which no agent tells: its `state`, and how it ended when it was not meant to (`crash`, or
    `ended_with_computer`: its user knows of that). ``looked``: see `vm_may_run`."""
    if paths.remote.exists():
        return _remote(paths)
    run = runstate.load(paths)
    if vm_may_run(paths, looked=looked):
        return {"state": "running", "agent_pid": None, **(run.shown() if run else {})}
    if paths.suspended_run.exists():
        found = suspended.load(paths)
        since = {"suspended_at": found.at, "idle_since": found.idle_since} if found is not None else {}
        return {"state": "suspended", "agent_pid": None, **since}
    if run is None:
        return {"state": "stopped"}
    if max(run.started_at, run.resumed_at) < crashes.computer_began():
        return {"state": "stopped", "ended_with_computer": True}
    # A guest that panics, or powers itself off, ends QEMU without a word: then the console has the last ones.
    words = lastwords.of_run(paths.qemu_log) or consolewords.of_run(paths.console_log, run.console_begin, 3)
    how = lastwords.ending(paths.qemu_log) or ("its VM ended" if paths.hyperv.exists() else "QEMU ended")
    return {"state": "stopped", "crash": {"how": how, "words": words, "started_at": run.started_at}}


def _remote(paths: MachinePaths) -> dict[str, Any]:
    """Of a machine whose engine runs on another computer, which nobody asks."""
    try:
        found = remote.load(paths)
    except SettingsError:
        found = None
    shown = found.shown() if found is not None else {}
    return {"state": "running", "agent_pid": None, **shown} if vm_may_run(paths) else {"state": "stopped", **shown}


def note_crash(paths: MachinePaths, *, seen: bool) -> None:
    """Keep how the VM ended when it was not meant to, before its next start makes that forgotten. For whoever has looked whether it
    runs; ``seen``: it ended this moment."""
    run, crash = runstate.load(paths), status(paths, looked=True).get("crash")
    if run is None or crash is None:
        return
    at = None if seen else crashes.changed_last(paths.console_log, paths.qemu_log)
    crashes.note(paths, "VM", crash["how"], crash["words"], run.boot_id, at)
