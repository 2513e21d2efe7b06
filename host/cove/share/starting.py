"""What a VM is started with for its folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cove.drivers.base import SharedFolder
from cove.machine.settings import Settings
from cove.share import choice, folders
from cove.share.folders import Folder


def settle(wanted: Settings, program: Path) -> tuple[list[Folder], str, list[str]]:
    """The folders, what carries them, and what is to be said. Blocks for a moment. Raises `SettingsError`."""
    listed, said = folders.wanted(wanted)
    if not listed:
        return [], choice.AUTO, said
    return listed, choice.choose(wanted.folder_driver, program), said


def of_hypervisor(listed: Sequence[Folder], carrier: str) -> tuple[SharedFolder, ...]:
    """`VmSpec.folders`."""
    return tuple(SharedFolder(one.tag, one.path, one.read_only) for one in listed) if carrier == "9p" else ()


def need_memory(listed: Sequence[Folder], carrier: str) -> bool:
    """`VmSpec.shared_memory`, of a VM that boots."""
    return carrier == "virtiofs" and bool(listed)
