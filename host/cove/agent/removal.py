"""What a hypervisor that keeps VMs itself has of a machine, taken away before the machine's files are."""

from __future__ import annotations

from collections.abc import Callable

from cove.errors import HypervisorMissing
from cove.machine.paths import MachinePaths


def take_away(paths: MachinePaths, warn: Callable[[str], None]) -> None:
    """Of a machine that is to go, data and all, or to become as new. Raises `CoveError`.

    ``warn`` is told of what may be left where the hypervisor cannot be had any more: that keeps nobody from removing the rest.
    """
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
