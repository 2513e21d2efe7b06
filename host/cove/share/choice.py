"""What carries the folders of a machine."""

from __future__ import annotations

import sys
from pathlib import Path

from cove.drivers.qemu import devices
from cove.errors import SettingsError

AUTO = "agent"
"""What `auto` is: alone of the three it makes changes of this computer inotify events in containers (docs/decisions/0046)."""


def describe(name: str) -> str:
    """For people."""
    return {"virtiofs": "virtiofs", "9p": "QEMU's 9p", "agent": "Cove's own 9p"}.get(name, name)


def choose(wanted: str, program: Path) -> str:
    """ "virtiofs", "9p" or "agent", by the setting. Blocks for a moment. Raises `SettingsError` for what does not work here."""
    name = AUTO if wanted == "auto" else wanted
    if reason := unusable(name, program):
        raise SettingsError(
            f"folder_driver: {wanted} does not work here: {reason}",
            "let Cove choose: cove config set folder_driver auto",
        )
    return name


def unusable(name: str, program: Path) -> str:
    """Why a driver cannot be used here, "" when it can."""
    if name == "virtiofs":
        from cove.share import virtiofsd

        return virtiofsd.unusable(program)
    if name == "9p":
        return _no_virtfs(program)
    return ""


def _no_virtfs(program: Path) -> str:
    if sys.platform == "win32":
        return "QEMU for Windows has no 9p server"
    return "" if devices.has(program, "virtio-9p-pci") else f"{program.name} was built without its 9p server"


def has_virtiofs(program: Path) -> bool:
    """Whether QEMU can have a server of virtiofs beside it."""
    return devices.has(program, "vhost-user-fs-pci")
