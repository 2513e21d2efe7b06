"""Rows of `cove machine status` that machines of all kinds have."""

from __future__ import annotations

from typing import Any

from cove.machine.paths import MachinePaths


def folder_rows(value: dict[str, Any]) -> list[tuple[str, str]]:
    """Folders of this computer, and what carries them."""
    if value["state"] != "running" or "folder_driver" not in value:
        return []
    folders = value.get("folders", [])
    shown = [f"{one['path']}, {one['access']}, {one['driver']}: {one['state']}" for one in folders] or ["none shared"]
    return [("" if index else "folders", line) for index, line in enumerate(shown)]


def not_shared_rows(value: dict[str, Any]) -> list[tuple[str, str]]:
    """Folders of the settings that containers cannot use."""
    lines = value.get("folders_not_shared")
    if not lines:
        return []
    from cove.support import folders

    rows = [("" if index else "not shared", line) for index, line in enumerate(lines)]
    return [*rows, ("", folders.way_out(MachinePaths(value["machine"])))]


def span(seconds: float) -> str:
    """ "42 s", "5 min 3 s", "2 h 4 min", "3 d 2 h"."""
    whole = int(seconds)
    for unit, size, smaller, divisor in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // divisor} {smaller}"
    return f"{whole} s"
