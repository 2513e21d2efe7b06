"""Whether a machine's VM runs, for whoever has no agent that tells. Light to import."""

from __future__ import annotations

from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths


def vm_may_run(paths: MachinePaths, *, looked: bool = False) -> bool:
    """Whether a VM of the machine runs, agent or no agent.

    Of one that Hyper-V has, which holds no lock of ours without its agent, it is taken for true until somebody has looked, unless the
    computer was restarted since. ``looked``: this process has, and holds the lock of one that runs. One on another computer runs from when
    it was started until it was stopped.
    """
    if paths.remote.exists():
        return paths.remote_run.exists()
    if not FileLock(paths.vm_lock).is_free():
        return True
    if looked or not paths.hyperv.exists() or paths.suspended_run.exists():
        return False
    from cove.machine import crashes, runstate

    run = runstate.load(paths)
    if run is None or max(run.started_at, run.resumed_at) < crashes.computer_began():
        return False
    return not crashes.is_noted(paths, run.boot_id)
