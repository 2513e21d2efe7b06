"""`cove tray` where there is no tray: words, and what is to be done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cove.errors import CoveError
from cove.machine import autostart
from cove.machine.paths import MachinePaths
from cove.tray import launch, qt

BOUND_S = 60.0


def cove(*words: str, status: int = 0, **environment: str) -> str:
    """What it says; of an environment without a desktop."""
    known = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-m", "cove", *words], capture_output=True, text=True, timeout=BOUND_S, check=False,
        env={**known, **environment}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


@pytest.fixture
def qt_of_sorts(tmp_path: Path) -> str:
    """PYTHONPATH with a Qt that is installed, and lacks something."""
    (tmp_path / "PySide6").mkdir()
    (tmp_path / "PySide6/__init__.py").write_text("raise ImportError('libEGL.so.1: cannot open shared object file')\n")
    return os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])


def hint_without_qt(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(qt, "find_spec", lambda name: None)
    with pytest.raises(CoveError) as error:
        qt.check_installed()
    return error.value.hint


def test_without_the_extra_it_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qt.pip, "command", lambda package: f"PYTHON -m pip install {package}")
    assert "PYTHON -m pip install PySide6-Essentials" in hint_without_qt(monkeypatch)


def test_a_package_without_pip_says_what_to_install_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qt.pip, "command", lambda package: None)
    assert "install Cove by pip instead, with its extra [tray]" in hint_without_qt(monkeypatch)


@pytest.mark.skipif(sys.platform == "win32", reason="its packages have no links")
def test_debians_package_takes_debians_qt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "PySide6"
    link.symlink_to(tmp_path / "not installed")
    monkeypatch.setattr(qt, "_SYSTEMS", link)
    assert "sudo apt install python3-pyside6.qtwidgets" in hint_without_qt(monkeypatch)


@pytest.mark.skipif(sys.platform != "linux", reason="others always have a desktop")
def test_without_a_desktop_it_says_so(paths: MachinePaths, qt_of_sorts: str) -> None:
    assert "there is no desktop here" in cove("tray", status=1, PYTHONPATH=qt_of_sorts)


def test_what_the_process_lacks_is_told_by_the_command(paths: MachinePaths, qt_of_sorts: str) -> None:
    told = cove("tray", status=1, PYTHONPATH=qt_of_sorts, DISPLAY=":0")
    assert "Qt cannot be loaded: libEGL.so.1" in told
    assert not launch.of("default").socket.exists()


def test_it_is_there_at_the_login_when_asked(paths: MachinePaths, qt_of_sorts: str) -> None:
    entry = autostart.here(started=autostart.TRAY)
    assert cove("tray", "--at-login", "status") == "the icon of machine default is not shown when you log in\n"
    assert (
        cove("tray", "--at-login", "on", PYTHONPATH=qt_of_sorts)
        == "the icon of machine default is shown when you log in\n"
    )
    assert entry.is_on("default")
    assert not autostart.here().is_on("default"), "the machine is not started by that"
    found = json.loads(cove("tray", "--at-login", "status", "--json", PYTHONPATH=qt_of_sorts))
    assert found == {"machine": "default", "at_login": True, "current": True}
    assert "by what another Cove has made" in cove(
        "tray", "--at-login", "status", PYTHONPATH="/elsewhere" + os.pathsep + qt_of_sorts
    )
    cove("tray", "--at-login", "off")
    assert not entry.is_on("default")


def test_uninstalling_takes_the_entry_away(paths: MachinePaths) -> None:
    entry = autostart.here(started=autostart.TRAY)
    entry.turn_on("default")
    cove("uninstall", "--force")
    assert not entry.is_on("default")


def test_to_take_away_what_is_not_there_is_no_error(paths: MachinePaths) -> None:
    assert cove("tray", "--quit") == "machine default has no icon in the tray\n"
    assert json.loads(cove("tray", "--quit", "--json")) == {"machine": "default", "shown": False}


def test_wishes_that_exclude_each_other_are_refused(paths: MachinePaths) -> None:
    assert "two wishes" in cove("tray", "--quit", "--at-login", "on", status=1)
    assert "cannot be the name of a machine" in cove("tray", "--at-login", "off", "../x", status=1)
