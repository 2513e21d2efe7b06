"""What uninstalling leaves: nothing of Cove's, and all that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from cove.machine import autostart
from cove.machine.paths import MachinePaths
from cove.support import leftovers


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """COVE_HOME is set, so that nothing of the user's own Cove can be removed."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "own"))
    for variable in ("XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def uninstall() -> None:
    leftovers.uninstall(leftovers.of_uninstall(keep_data=False), keep_data=False)


@pytest.mark.parametrize("others", [[], ["notes"]])
def test_the_folder_around_a_macs_sockets_goes_when_nothing_else_is_in_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, others: list[str]
) -> None:
    monkeypatch.setattr(leftovers, "runtime_dir", lambda: home / ".cove" / "run")
    (home / ".cove" / "run").mkdir(parents=True)
    for name in others:
        (home / ".cove" / name).touch()
    uninstall()
    assert [path.name for path in home.rglob("*")] == ([".cove", *others] if others else [])


def test_another_homes_machine_of_the_same_name_is_started_at_the_login_still(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("one", "other"):
        monkeypatch.setenv("COVE_HOME", str(home / place))
        MachinePaths("web").settings.parent.mkdir(parents=True)
        MachinePaths("web").settings.touch()
        autostart.here().turn_on("web")
    listed = {one.path: one.what for one in leftovers.of_uninstall(keep_data=True)}
    assert listed[autostart.files("web")[0]] == "what your login starts of machine web"
    uninstall()
    assert not autostart.here().is_on("web")
    assert not (home / "other").exists()
    monkeypatch.setenv("COVE_HOME", str(home / "one"))
    assert autostart.here().is_on("web")
