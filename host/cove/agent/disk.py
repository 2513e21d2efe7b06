"""A machine's data disk: what the settings want against what is there."""

from __future__ import annotations

from cove.drivers.qemu import qcow2
from cove.errors import DriverError, SettingsError
from cove.machine.paths import MachinePaths
from cove.machine.sizes import format_size


def virtual_size(paths: MachinePaths) -> int | None:
    """Of the disk that the machine has; None when it has none, or Hyper-V keeps it for a VM that runs. Raises `DriverError`."""
    if paths.disk.exists():
        return qcow2.virtual_size(paths.disk)
    if not paths.vhdx.exists():
        return None
    from cove.image import vhdx

    try:
        with paths.vhdx.open("rb") as file:
            return vhdx.virtual_size(file)
    except PermissionError:
        return None
    except (OSError, ValueError) as error:
        raise DriverError(f"the disk {paths.vhdx} cannot be read: {error}") from error


def check_size(paths: MachinePaths, wanted: int) -> None:
    """Refuse a setting of `wanted` bytes when the disk has more: what is on it would be cut off. A larger one is given to the
    disk by the machine's next start. Raises `SettingsError`, and `DriverError` when the disk cannot be read.
    """
    size = virtual_size(paths)
    if size is not None and wanted < size:
        raise SettingsError(
            f"the disk of machine {paths.name} has {format_size(size)} and cannot become smaller: {format_size(wanted)}"
            " would cut off what is on it",
            f"keep it (cove machine config set -m {paths.name} disk {format_size(size)}), or make another machine:"
            f" cove machine init NAME --disk {format_size(wanted)}",
        )
