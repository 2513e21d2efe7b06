"""What Windows' installers run of the Cove that they replace (installers/windows/stop_machines.py)."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cove.dashboard import launch as dashboard
from cove.dashboard import places
from cove.errors import CoveError
from cove.machine import lifecycle
from cove.tray import launch as tray

SCRIPT = Path(__file__).parents[3] / "installers/windows/stop_machines.py"


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was ended, where the machine `stuck` does not stop, and `hangs` takes for ever."""
    found: list[str] = []

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        *verb, name = words[-3:]
        assert verb == ["machine", "stop"]
        found.append(name)
        if name == "hangs":
            raise subprocess.TimeoutExpired(words, 0)
        return subprocess.CompletedProcess(words, 1 if name == "stuck" else 0)

    def silent(name: str) -> None:
        found.append(f"{name}'s")
        raise CoveError("it does not answer")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(lifecycle, "names", lambda: ["a", "b"])
    monkeypatch.setattr(places, "served", lambda: ["dashboard"])
    monkeypatch.setattr(tray, "shown", lambda: ["icon"])
    monkeypatch.setattr(dashboard, "end", silent)
    monkeypatch.setattr(tray, "end", silent)
    return found


def status() -> object:
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return ended.value.code


def test_all_that_runs_is_ended(ended: list[str]) -> None:
    assert status() == 0
    assert ended == ["dashboard's", "icon's", "a", "b"]


@pytest.mark.parametrize("name", ["stuck", "hangs"])
def test_a_machine_that_runs_on_is_told_and_keeps_no_other_running(
    ended: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(lifecycle, "names", lambda: [name, "z"])
    assert status() == 3
    assert ended[-2:] == [name, "z"]
