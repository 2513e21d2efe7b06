"""What a hypervisor that keeps VMs itself, or another computer, has of a machine, taken away before the machine's files are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from cove.agent import ending
from cove.errors import CoveError, HypervisorMissing
from cove.machine import remote
from cove.machine.paths import MachinePaths


def take_away(paths: MachinePaths, warn: Callable[[str], None]) -> None:
    """Of a machine that is to go, data and all, or to become as new. Raises `CoveError`.

    ``warn`` is told of what may be left where the hypervisor cannot be had any more: that keeps nobody from removing the rest.
    """
    if paths.remote.exists():
        _take_from_there(paths)
        return
    if not paths.hyperv.exists():
        return
    import asyncio

    from cove.drivers.hyperv.driver import HyperVDriver  # seldom, and not light

    driver = HyperVDriver(paths)
    try:
        asyncio.run(driver.remove())
    except HypervisorMissing as error:
        warn(
            f"Hyper-V may have the VM {driver.vm_name} still ({error.message}); to remove it, as an administrator, where Hyper-V is:"
            f" Remove-VM -Force {driver.vm_name}"
        )


def of_remote(paths: MachinePaths, warn: Callable[[str], None], *, forced: bool) -> None:
    """Stop a machine that is another computer, and leave nothing of ours there. Raises `CoveError`, and then it is there still.

    ``forced``: it is forgotten also when that computer cannot be reached, or does not do it; `warn` is told what is left there.
    """
    has_run = paths.agent_log.exists()
    try:
        ending.stop(paths, in_order=False, forced=forced)
        take_away(paths, warn)
    except CoveError as error:
        if not forced:
            way = f"to forget it, whatever is left there: cove machine rm --force {paths.name}"
            raise type(error)(error.message, "\n".join(filter(None, (error.hint, way)))) from error
        left = ""
        with contextlib.suppress(CoveError):
            if (found := remote.load(paths)) is not None and found.is_ours:
                left = f": {' and '.join(found.places)} of {found.address}, and what runs of it"
        had = f", and what it had there may be left{left}" if has_run else "; it has never run, and had nothing there"
        warn(f"{error.message}; the machine is forgotten{had}")
        paths.remote_run.unlink(missing_ok=True)


def _take_from_there(paths: MachinePaths) -> None:
    found = remote.load(paths)
    if found is None or not found.is_ours:
        return
    from cove.remote import connection  # paramiko: seldom needed
    from cove.remote.engine import RemoteEngine

    with contextlib.closing(connection.connect(found.address, found.host_key)) as made:
        RemoteEngine(made, found.instance, remote.label(paths)).remove()
