"""virtiofsd: the program that serves a folder to a VM out of the VM's own memory (vhost-user). One process for each folder.

There are two programs of that name: QEMU's own in C (until 7.2; Debian 12), which only root can run, and its successor in Rust.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

PLACES = ("/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/bin/virtiofsd")


def find() -> Path | None:
    """The program, as distributions install it; it is on nobody's PATH."""
    for place in (shutil.which("virtiofsd"), *PLACES):
        if place and Path(place).is_file():
            return Path(place)
    return None


def unusable(program: Path) -> str:
    """Why folders cannot be served so, "" when they can."""
    from cove.share import choice

    if sys.platform != "linux":
        return "virtiofs needs Linux"
    if find() is None:
        return "virtiofsd is not installed"
    if not choice.has_virtiofs(program):
        return f"{program.name} was built without virtiofs"
    return ""
