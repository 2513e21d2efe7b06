"""A Python for Windows that runs the client's unit tests under Wine: the very one that the installers bring, with what tests need."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("pytest", "pytest-timeout", "hypothesis", "kubernetes", "kubernetes-validate")
BOUND_S = 600


def make(installers: Path) -> tuple[Path, list[Path]]:
    """The program, and the folders that modules are imported from. They stay in build/windows-units until something of it is another."""
    shipped = installers / "work/windows-tree"
    folder = ROOT / "build/windows-units"
    pinned = [f"{name}=={version(name)}" for name in PACKAGES]
    program = shipped / "python/python.exe"
    stamp, wanted = folder / "made", f"{program.stat().st_mtime_ns} {pinned}"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        # Without its ._pth, with which it would look at no other folder.
        shutil.copytree(shipped / "python", folder / "python", ignore=shutil.ignore_patterns("*._pth"))
        options = (
            "--platform=win_amd64",
            "--python-version=3.13",
            "--only-binary=:all:",
            "--disable-pip-version-check",
        )
        _run(
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            *options,
            "--target",
            folder / "site",
            *pinned,
            "colorama",
        )
        stamp.write_text(wanted)
    return folder / "python/python.exe", [ROOT / "host", ROOT / "guest", folder / "site", shipped / "site"]


def path(here: Path) -> str:
    """Wine has all of this computer's files on a drive of theirs."""
    return "Z:" + str(here).replace("/", "\\")


def importing(*folders: Path) -> dict[str, str]:
    """An environment in which modules are imported from these. What is compiled is kept, but not among the sources."""
    return {
        "PYTHONPATH": ";".join(map(path, folders)),
        "PYTHONPYCACHEPREFIX": path(ROOT / "build/windows-units/pycache"),
    }


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, timeout=BOUND_S, stdin=subprocess.DEVNULL)
