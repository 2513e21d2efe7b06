"""virtiofsd: the program that serves a folder to a VM out of the VM's own memory (vhost-user). One process for each folder.

There are two programs of that name: QEMU's own in C (until 7.2; Debian 12), which only root can run, and its successor in Rust.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cove.errors import DriverError

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
    if (server := find()) is None:
        return "virtiofsd is not installed"
    if os.geteuid() and not _is_rust(server):
        return f"{server} is QEMU's old virtiofsd, which only root can run"
    if not choice.has_virtiofs(program):
        return f"{program.name} was built without virtiofs"
    return ""


def command(folder: Path, listener: int) -> list[str]:
    """The command line for a folder, with a listening unix socket that it inherits. Asks the program which of the two it is: blocks.

    Either confines itself to the folder: a mount namespace in which there is nothing else. Raises `DriverError`.
    """
    program = find()
    if program is None:
        raise DriverError("virtiofsd is not installed any more")
    if _is_rust(program):
        return [
            str(program), f"--fd={listener}", f"--shared-dir={folder}", "--sandbox=namespace", "--cache=auto", "--xattr",
            "--log-level=warn",
        ]  # fmt: skip
    options = f"source={_escaped(folder)},sandbox=namespace,cache=auto,xattr,log_level=warn"
    return [str(program), f"--fd={listener}", "-f", "-o", options]


def _escaped(path: Path) -> str:
    r"""libfuse's options: a comma ends one, unless a backslash is before it."""
    return str(path).replace("\\", "\\\\").replace(",", "\\,")


def _is_rust(program: Path) -> bool:
    try:
        said = subprocess.run(
            [program, "--help"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DriverError(f"{program} does not run: {error}") from error
    return b"--shared-dir" in said.stdout + said.stderr
