"""How paths and accelerators are written on QEMU's command line."""

from __future__ import annotations

import ntpath
import sys
from pathlib import PurePath

from cove.errors import DriverError


def place(path: PurePath, folder: PurePath) -> str:
    """A path for a QEMU that runs in `folder`. Raises `DriverError` when it cannot have it.

    QEMU for Windows takes its words, and opens files, in the system's old code page: what a user is called may not be in it. From
    folder to folder there is no such name.
    """
    if sys.platform != "win32":
        return str(path)
    try:
        found = ntpath.relpath(path, folder)
    except ValueError:  # on another drive
        found = str(path)
    if not found.isascii():
        raise DriverError(
            f"QEMU for Windows cannot open {path}: it is not written in ASCII from {folder}",
            "set COVE_HOME to a folder on the same drive, or one whose path has ASCII letters alone",
        )
    return found


def escaped(path: str) -> str:
    """Within an option of several parts, QEMU reads a doubled comma as one."""
    return path.replace(",", ",,")


def accel(accelerator: str) -> str:
    """The value of `-accel`."""
    return "tcg,thread=multi,tb-size=256" if accelerator == "tcg" else accelerator


def cpu(accelerator: str, emulated: str) -> str:
    """The value of `-cpu`: the most that the accelerator has; `emulated` is the board's for when there is none.

    Under WHPX an amd64 processor is the host's whatever it is called, but for "host" and "max", with which it does not start
    (lima-vm/lima#931).
    """
    name = accelerator.partition(",")[0]
    if name == "tcg":
        return emulated
    return "qemu64" if name == "whpx" and emulated == "max" else "host"
