"""What a hypervisor that keeps VMs itself has of a machine, taken away before the machine's files are."""

from __future__ import annotations

from cove.machine.paths import MachinePaths


def take_away(paths: MachinePaths) -> None:
    """Of a machine that is to go, data and all, or to become as new. Raises `CoveError`."""
    if not paths.hyperv.exists():
        return
    import asyncio

    from cove.drivers.hyperv.driver import HyperVDriver  # seldom, and not light

    asyncio.run(HyperVDriver(paths).remove())
