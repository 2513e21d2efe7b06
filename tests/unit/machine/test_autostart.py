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


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_of_another_cove_is_known_and_renewed(
    kind: Callable[[dict[str, str]], Autostart], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entries = kind({})
    assert not entries.is_current("default")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(sys, "executable", str(tmp_path / "earlier" / "python"))
        entries.turn_on("default")
        assert entries.is_current("default")
    assert (entries.is_on("default"), entries.is_current("default")) == (True, False)
    entries.turn_on("default")
    assert entries.is_current("default")


@pytest.mark.parametrize("kind", KINDS)
def test_machines_of_one_name_in_two_homes_have_one_each(
    kind: Callable[[dict[str, str]], Autostart], tmp_path: Path
) -> None:
    homes = [kind({}), kind({"COVE_HOME": str(tmp_path / "a")}), kind({"COVE_HOME": str(tmp_path / "b")})]
    for entries in homes:
        assert not entries.is_on("web")
        entries.turn_on("web")
    for number, entries in enumerate(homes):
        entries.turn_off("web")
        assert [each.is_on("web") for each in homes] == [later > number for later in range(3)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_and_its_icon_have_an_entry_each(kind: Callable[..., Autostart]) -> None:
    machine, tray = kind({}), kind({}, autostart.TRAY)
    machine.turn_on("web")
    kind({}).turn_on("tray-web")
    assert not tray.is_on("web")
    tray.turn_on("web")
    machine.turn_off("web")
    assert (machine.is_on("web"), tray.is_on("web"), tray.is_current("web")) == (False, True, True)
    tray.turn_off("web")
    assert machine.is_on("tray-web")


def test_of_a_machine_that_goes_nothing_is_started() -> None:
    for started in (autostart.MACHINE, autostart.TRAY):
        autostart.here(started=started).turn_on("web")
    autostart.forget("web")
    assert not any(autostart.here(started=started).is_on("web") for started in (autostart.MACHINE, autostart.TRAY))


@pytest.mark.skipif(sys.platform == "win32", reason="of other systems")
def test_a_desktop_is_told_of_the_icon(home: Path) -> None:
    DesktopEntries({}, autostart.TRAY).turn_on("web")
    text = (home / ".config/autostart/cove.tray-web.desktop").read_text()
    assert "Name=Cove tray web\n" in text
    assert text.splitlines()[4].endswith('"-m" "cove" "tray" "--wait" "120" "web"')


@pytest.mark.skipif(sys.platform == "win32", reason="of other systems")
def test_a_home_that_is_named_from_here_is_the_same_at_the_login(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    LaunchAgents({"COVE_HOME": "own"}).turn_on("web")
    assert LaunchAgents({"COVE_HOME": str(tmp_path / "own")}).is_on("web")
    (file,) = (home / "Library/LaunchAgents").iterdir()
    assert plistlib.loads(file.read_bytes())["EnvironmentVariables"] == {"COVE_HOME": str(tmp_path / "own")}


@pytest.mark.skipif(sys.platform == "win32", reason="of other systems")
def test_launchd_is_told_what_to_run_and_to_leave_what_stays(home: Path) -> None:
    python = {
        "PYTHONPATH": "/usr/local/lib/cove/site",
        "PYTHONSAFEPATH": "1",
        "PYTHONPYCACHEPREFIX": "/Users/a b/cache",
    }
    LaunchAgents({"DOCKER_CONFIG": "/Users/a b/docker", "PATH": "/bin", **python}).turn_on("web")
    file = home / "Library/LaunchAgents/org.cove.machine.web.plist"
    told = plistlib.loads(file.read_bytes())
    assert told == {
        "Label": "org.cove.machine.web",
        "ProgramArguments": [sys.executable, "-m", "cove", "machine", "start", "web"],
        "RunAtLoad": True,
        "EnvironmentVariables": {"DOCKER_CONFIG": "/Users/a b/docker", **python},
        "AbandonProcessGroup": True,
    }
    assert file.stat().st_mode & 0o777 == 0o644  # launchd takes none that others may write


@pytest.mark.skipif(sys.platform == "win32", reason="of other systems")
def test_a_desktop_is_told_in_its_own_quotes(home: Path) -> None:
    DesktopEntries({"COVE_HOME": '/a "b" $c/100%'}).turn_on("web")
    (file,) = (home / ".config/autostart").glob("cove-web.*.desktop")
    lines = file.read_text().splitlines()
    assert lines[0] == "[Desktop Entry]"
    assert f"TryExec={sys.executable}" in lines
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
