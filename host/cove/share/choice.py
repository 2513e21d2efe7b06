"""What carries the folders of a machine, and why that and nothing better."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from cove.drivers.qemu import devices
from cove.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Choice:
    """``name`` is "virtiofs", "9p" or "agent"; ``reason`` says why nothing better, "" when there is nothing better."""

    name: str
    reason: str


def describe(name: str) -> str:
    """For people."""
    return {"virtiofs": "virtiofs", "9p": "QEMU's 9p", "agent": "Cove's own 9p"}.get(name, name)


def choose(wanted: str, program: Path) -> Choice:
    """What the settings want, or the best that works. Blocks for a moment. Raises `SettingsError` for what does not work here."""
    reasons: list[str] = []
    for name in ORDER if wanted == "auto" else (wanted,):
        if not (reason := unusable(name, program)):
            return Choice(name, "; ".join(reasons))
        reasons.append(reason)
    raise SettingsError(
        f"folder_driver: {wanted} does not work here: {'; '.join(reasons)}",
        "let Cove choose: cove config set folder_driver auto",
    )


ORDER = ("9p", "agent")
"""What is tried, first to last; virtiofs is by setting (docs/decisions/0046)."""


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
