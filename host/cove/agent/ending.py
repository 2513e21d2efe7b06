"""From any command to a machine that is stopped, or suspended, also when its agent was killed."""

from __future__ import annotations

import time

from cove.agent.client import SUSPEND, SUSPEND_ANYWAY, NoAgent, ask
from cove.errors import MachineInUse
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from cove.machine.running import vm_may_run
from cove.progress import Report, ignore

STOP_TIMEOUT_S = 120.0
SUSPEND_TIMEOUT_S = 240.0
"""One whose start is under way has come to answer by then."""
ENDED_S = 30.0
LEFT_S = 5.0
AGAIN_S = 0.1


def stop(paths: MachinePaths, report: Report = ignore, *, in_order: bool = True, forced: bool = False) -> None:
    """End a machine, its VM and its agent. Raises `CoveError`.

    Args:
        in_order: one that is suspended goes on first, so that what runs in it ends as it should.
        forced: soon, for its data are to go.
    """
    from cove.agent.launch import start_agent

    try:
        ask(paths, "stop", STOP_TIMEOUT_S, report, in_order=in_order, forced=forced)
    except NoAgent:
        if (in_order and paths.suspended_run.exists()) or vm_may_run(paths):
            # Its agent was killed: a new one takes the VM over, or wakes it, and stops it as it should be.
            start_agent(paths)
            ask(paths, "stop", STOP_TIMEOUT_S, report, in_order=in_order, forced=forced)
    lock = FileLock(paths.lock)
    lock.acquire(ENDED_S, f"machine {paths.name}")
    lock.release()


def suspend(paths: MachinePaths, report: Report = ignore, *, anyway: bool = False) -> None:
    """Suspend a machine that runs; ``anyway``: also when docker clients are connected. Raises `CoveError`."""
    from cove.agent.launch import start_agent

    operation = SUSPEND_ANYWAY if anyway else SUSPEND
    try:
        ask(paths, operation, SUSPEND_TIMEOUT_S, report)
    except NoAgent:
        if not vm_may_run(paths):
            raise
        start_agent(paths)  # the one before was killed: it takes the VM over
        ask(paths, operation, SUSPEND_TIMEOUT_S, report)


def suspend_once_left(paths: MachinePaths, report: Report = ignore, *, anyway: bool = False) -> None:
    """`suspend` for who has just ended connections of its own: it takes the agent a moment to see that. Raises `CoveError`."""
    deadline = time.monotonic() + LEFT_S
    while True:
        try:
            suspend(paths, report, anyway=anyway)
            return
        except MachineInUse:
            if time.monotonic() > deadline:
                raise
        time.sleep(AGAIN_S)


def check_restartable(paths: MachinePaths) -> None:
    """Raises `CoveError` for what would keep a start from succeeding: better before a stop, when the machine still runs."""
    from cove.agent import fit, hypervisor
    from cove.machine import effective

    fit.check_startable(paths)
    wanted = effective.load(paths.settings)
    chosen, _ = hypervisor.choose(paths, wanted)
    chosen.find(wanted)
