"""A machine's data disk: what the settings want against what is there."""

from __future__ import annotations

from cove.drivers.qemu import qcow2
from cove.errors import SettingsError
from cove.machine.paths import MachinePaths
from cove.machine.sizes import format_size


def check_size(paths: MachinePaths, wanted: int) -> None:
    """Refuse a setting of `wanted` bytes when the disk has more: what is on it would be cut off. A larger one is given to the
    disk by the machine's next start. Raises `SettingsError`, and `DriverError` when the disk cannot be read.
    """
    if not paths.disk.exists():
        return
    size = qcow2.virtual_size(paths.disk)
    if wanted < size:
        raise SettingsError(
            f"the disk of machine {paths.name} has {format_size(size)} and cannot become smaller: {format_size(wanted)}"
            " would cut off what is on it",
            f"keep it (cove machine config set -m {paths.name} disk {format_size(size)}), or make another machine:"
            f" cove machine init NAME --disk {format_size(wanted)}",
        )
