"""What starts a machine at login, by each system's own kind of entry; one contract for all."""

from __future__ import annotations

import plistlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cove.errors import CoveError
from cove.machine import autostart
from cove.machine.autostart import Autostart, DesktopEntries, LaunchAgents

KINDS: list[Callable[[dict[str, str]], Autostart]] = [LaunchAgents, DesktopEntries]
if sys.platform == "win32":
    KINDS = [autostart.RunKey]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_on_and_off_and_each_machine_for_itself(kind: Callable[[dict[str, str]], Autostart]) -> None:
    entries = kind({})
    assert not entries.is_on("default")
    entries.turn_off("default")
    for _ in range(2):
        entries.turn_on("default")
        assert entries.is_on("default")
    assert not entries.is_on("other")
    entries.turn_off("default")
    assert not entries.is_on("default")


@pytest.mark.skipif(sys.platform == "win32", reason="of other systems")
def test_launchd_is_told_what_to_run_and_to_leave_what_stays(home: Path) -> None:
    LaunchAgents({"COVE_HOME": "/Users/a b/cove", "PATH": "/bin"}).turn_on("web")
    file = home / "Library/LaunchAgents/org.cove.machine.web.plist"
    told = plistlib.loads(file.read_bytes())
    assert told == {
        "Label": "org.cove.machine.web",
        "ProgramArguments": [sys.executable, "-m", "cove", "machine", "start", "web"],
        "RunAtLoad": True,
        "EnvironmentVariables": {"COVE_HOME": "/Users/a b/cove"},
        "AbandonProcessGroup": True,
        "ProcessType": "Background",
    }
    assert file.stat().st_mode & 0o777 == 0o644  # launchd takes none that others may write


@pytest.mark.skipif(sys.platform == "win32", reason="of other systems")
def test_a_desktop_is_told_in_its_own_quotes(home: Path) -> None:
    DesktopEntries({"COVE_HOME": '/a "b" $c/100%'}).turn_on("web")
    lines = (home / ".config/autostart/cove-web.desktop").read_text().splitlines()
    assert lines[0] == "[Desktop Entry]"
    (line,) = [line for line in lines if line.startswith("Exec=")]
    assert line.startswith(r'Exec="env" "COVE_HOME=/a \\"b\\" \\$c/100%%" "')
    assert line.endswith('" "-m" "cove" "machine" "start" "web"')


@pytest.mark.skipif(sys.platform == "win32", reason="of other systems")
def test_a_folder_that_is_none_is_an_error_in_words(home: Path) -> None:
    (home / "Library").touch()
    with pytest.raises(CoveError, match="cannot be written"):
        LaunchAgents({}).turn_on("web")


@pytest.mark.parametrize(("platform", "kind"), [("darwin", LaunchAgents), ("linux", DesktopEntries)])
def test_each_system_has_its_own(monkeypatch: pytest.MonkeyPatch, platform: str, kind: type) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert type(autostart.here({})) is kind
