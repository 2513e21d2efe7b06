"""The Windows installers over an earlier version of Cove, and an earlier one over a later, under Wine (platforms_wine.py)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from making import msi, windows
from platforms_earlier import EARLIER, GIVEN_UP, NOW, files, plan
from platforms_wine import Wine

pytestmark = pytest.mark.timeout(1800)
FOLDER = "AppData/Local/Programs/Cove"
BIN = r"Programs\Cove\bin"
GONE = r"Software\Microsoft\Windows\CurrentVersion\Uninstall\Cove"
FAILURE = 1603 & 0xFF
"""ERROR_INSTALL_FAILURE, of which a process of Linux has eight bits."""
RUNS = "import sys; print('here', flush=True); sys.stdin.read()"
SETTINGS = "AppData/Local/cove/machines/kept/machine.toml"


@pytest.fixture(scope="module")
def earlier(installers: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    tree = installers / "work/windows-tree"
    made = plan(tmp_path_factory.mktemp("earlier"), tree)
    laid = files(made, tree, "site")
    return {"exe": windows.exe(made, laid), "msi": msi.make(made, laid)}


def version(wine: Wine) -> str:
    return wine.run(wine.home / FOLDER / "bin/cove.exe", "--version")


def use(wine: Wine) -> dict[str, str]:
    """A machine with settings of the user's own, and something on its disk; what all that is."""
    program = wine.home / FOLDER / "bin/cove.exe"
    wine.run(program, "machine", "init", "--cpus", "1", "kept")
    (wine.home / SETTINGS).with_name("disk.img").write_text("the user's")
    assert any((wine.home / ".docker").rglob("meta.json"))
    return kept(wine, ".docker")


def kept(wine: Wine, *more: str) -> dict[str, str]:
    """The machine, and what is in `more` folders of the user's."""
    found = {
        path.relative_to(wine.home).as_posix(): path.read_text("utf-8", "replace")
        for folder in (SETTINGS.rsplit("/", 1)[0], *more)
        for path in (wine.home / folder).rglob("*")
        if path.is_file() and path.suffix != ".lock"  # which whoever stops a machine holds
    }
    assert "cpus = 1" in found[SETTINGS]
    return found


def program(wine: Wine, folder: Path | None = None) -> set[str]:
    folder = folder or wine.home / FOLDER
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def check_updated(wine: Wine, installers: Path, of_installer: set[str]) -> None:
    tree = installers / "work/windows-tree"
    assert version(wine) == f"Cove version {NOW}\n"
    assert (
        program(wine)
        == {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()} | of_installer
    )
    assert wine.path().count(BIN) == 1
    assert r"C:\other" in wine.path()


def test_the_installer_updates_and_refuses_to_go_back(installers: Path, earlier: dict[str, Path], wine: Wine) -> None:
    (setup,) = installers.glob("*-windows-amd64.exe")
    before = wine.files()
    wine.run(earlier["exe"], "/S")
    assert version(wine) == f"Cove version {EARLIER}\n"
    assert f"site/{GIVEN_UP}" in program(wine)
    users = use(wine)
    wine.run(setup, "/S")
    check_updated(wine, installers, {"Uninstall.exe"})
    assert wine.registry()[GONE]["displayversion"] == f'"{NOW}"'
    assert kept(wine, ".docker") == users

    wine.run(earlier["exe"], "/S", status=2)
    check_updated(wine, installers, {"Uninstall.exe"})
    assert kept(wine, ".docker") == users

    # Into another folder: there is one Cove.
    elsewhere = wine.prefix / "drive_c/Elsewhere"
    wine.run(setup, "/S", r"/D=C:\Elsewhere")
    assert not program(wine)
    assert "bin/cove.exe" in program(wine, elsewhere)
    assert BIN not in wine.path()
    assert wine.path().count(r"C:\Elsewhere\bin") == 1
    wine.run(elsewhere / "Uninstall.exe", "/S")
    assert not elsewhere.exists()
    # The machine outlives the program, and so does nothing else.
    left = wine.files() - before
    assert SETTINGS in left
    assert all(name.startswith(("AppData/Local/cove", ".docker")) for name in left), left
    forget(wine)


def test_an_update_changes_nothing_while_cove_runs(installers: Path, earlier: dict[str, Path], wine: Wine) -> None:
    """In a terminal, of which nobody asks that it be closed."""
    (setup,) = installers.glob("*-windows-amd64.exe")
    wine.run(earlier["exe"], "/S")
    before = program(wine)
    elsewhere = wine.prefix / "drive_c/Elsewhere"
    shutil.copytree(wine.home / FOLDER, elsewhere)
    with wine.running(wine.home / FOLDER / "python/python.exe", "-c", RUNS) as runs:
        assert runs.stdout is not None
        assert runs.stdout.readline().strip() == b"here"
        wine.call(setup, "/S", status=3)
        assert program(wine) == before
        wine.call(setup, "/S", r"/D=C:\Elsewhere", status=3)  # in whose place it would be, and which does not run
        assert program(wine) == program(wine, elsewhere) == before
    shutil.rmtree(elsewhere)
    wine.run(setup, "/S")
    check_updated(wine, installers, {"Uninstall.exe"})
    wine.run(wine.home / FOLDER / "Uninstall.exe", "/S")


def test_the_msi_updates_and_refuses_to_go_back(installers: Path, earlier: dict[str, Path], wine: Wine) -> None:
    (package,) = installers.glob("*-windows-amd64.msi")
    wine.run("msiexec", "/i", earlier["msi"], "/qn")
    assert version(wine) == f"Cove version {EARLIER}\n"
    assert f"site/{GIVEN_UP}" in program(wine)
    # Windows tells the earlier version that this is an update (UPGRADINGPRODUCTCODE), so that it leaves docker's context; Wine 8 does not.
    use(wine)
    users = kept(wine)
    wine.run("msiexec", "/i", package, "/qn")
    check_updated(wine, installers, set())
    assert kept(wine) == users

    wine.run("msiexec", "/i", earlier["msi"], "/qn", status=FAILURE)
    check_updated(wine, installers, set())
    assert kept(wine) == users
    wine.run("msiexec", "/x", package, "/qn")
    assert not program(wine)
    assert SETTINGS in wine.files()
    forget(wine)


def forget(wine: Wine) -> None:
    """The machine, of which no program is left that could remove it."""
    for path in (wine.home / SETTINGS).parent.iterdir():
        path.unlink()
