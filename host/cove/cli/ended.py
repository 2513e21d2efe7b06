"""What became of a machine under a command whose connection to the engine has ended."""

from __future__ import annotations

import time

from cove.machine import crashes
from cove.machine.paths import MachinePaths
from cove.machine.running import vm_may_run

PATIENCE_S = 1.0
"""A VM's connections may end before it has, and the agent notes how that was after it."""
RECENT_S = 10.0
"""Whoever came first may have had it started again."""
_LOOK_AGAIN_S = 0.05


def has_ended(machine: str | None) -> bool:
    """Whether the VM has, at this moment; an engine that is no machine's never."""
    return machine is not None and not vm_may_run(MachinePaths(machine))


def told(machine: str | None) -> list[str]:
    """What happened to the machine, and what next, in lines; none when it goes on, or the engine is no machine's."""
    if machine is None:
        return []
    paths = MachinePaths(machine)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        last = crashes.load(paths)
        if last is not None and last.what == "VM" and time.time() - last.at < RECENT_S:
            return _crashed(machine, last.how, last.words)
        free = not vm_may_run(paths)
        if free and paths.suspended_run.exists():
            return [f"the machine {machine} was suspended meanwhile; its containers go on with the next command"]
        if free and not paths.run_state.exists():
            again = f"start it again with: cove machine start {machine}"
            return [f"the machine {machine} was stopped meanwhile, and its containers with it; {again}"]
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK_AGAIN_S)
    if not free:
        return []
    from cove.agent import unattended  # its agent has died, too

    crash = unattended.status(paths).get("crash")
    return _crashed(machine, crash["how"], crash["words"]) if crash else []


def _crashed(machine: str, how: str, words: tuple[str, ...] | list[str]) -> list[str]:
    return [
        f"the VM of machine {machine} ended by itself: {how}" + (f" ({words[-1]})" if words else ""),
        "its containers have ended with it; the next command boots it again, and those with a restart policy come back",
        f"what it said: cove machine logs {machine}",
    ]
