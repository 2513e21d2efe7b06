"""Finding the QEMU program, and telling how to get it where it is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cove.drivers.qemu import board
from cove.errors import HypervisorMissing
from cove.machine.architecture import ARM64, Architecture

REINSTALL = "install QEMU again, or name another one: cove machine config set [-m MACHINE] qemu PROGRAM"
_PLACES = ("/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", r"C:\Program Files\qemu")


def find(configured: str, architecture: Architecture) -> Path:
    """The QEMU program for such processors: the configured one, else on PATH, else in the usual places. Raises `HypervisorMissing`."""
    if configured:
        path = Path(configured).expanduser()
        if not os.access(path, os.X_OK) or path.is_dir():
            raise HypervisorMissing(
                f"{path}, which the setting qemu names, is not a program that can be run",
                "correct it, or set it to empty to search: cove machine config set [-m MACHINE] qemu ''",
            )
        return path
    name = board.of(architecture).program
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(_PLACES))
    if not found:
        raise HypervisorMissing(f"QEMU ({name}) is not installed", install_hint(architecture))
    return Path(found)


def install_hint(architecture: Architecture) -> str:
    """How to install QEMU on this computer."""
    if sys.platform == "darwin":
        return "install it with: brew install qemu"
    if sys.platform == "win32":
        return "install it with: winget install SoftwareFreedomConservancy.QEMU"
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    program = board.of(architecture).program
    for names, command, amd64, arm64 in (
        ({"debian", "ubuntu"}, "sudo apt install", "qemu-system-x86", "qemu-system-arm"),
        ({"fedora", "rhel", "centos"}, "sudo dnf install", "qemu-system-x86-core", "qemu-system-aarch64-core"),
        ({"arch"}, "sudo pacman -S", "qemu-system-x86", "qemu-system-aarch64"),
        ({"suse", "opensuse"}, "sudo zypper install", "qemu-x86", "qemu-arm"),
        ({"alpine"}, "sudo apk add", "qemu-system-x86_64", "qemu-system-aarch64"),
    ):
        if names & family:
            return f"install it with: {command} {arm64 if architecture == ARM64 else amd64}"
    return f"install your system's QEMU package, the one with {program}"


def version(program: Path) -> str:
    """ "7.2.22". Raises `HypervisorMissing` when the program does not say."""
    try:
        result = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HypervisorMissing(f"{program} does not run: {error}", REINSTALL) from error
    match = re.search(r"version (\d+(?:\.\d+)+)", result.stdout)
    if not match:
        said = (result.stderr or result.stdout).strip()[:200]
        raise HypervisorMissing(f"{program} does not tell its version: {said}", REINSTALL)
    return match[1]
