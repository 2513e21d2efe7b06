"""A command that installs a package is told where it can be followed, and nowhere else."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from cove.local import pip


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A system's Python with pip, in a folder with a space."""
    made = SimpleNamespace(platform="linux", executable="/my python/bin/python3", prefix="/usr", base_prefix="/usr")
    monkeypatch.setattr(pip, "sys", made)
    monkeypatch.setattr(pip.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(pip, "find_spec", lambda _: object())
    return made


def test_it_is_of_the_python_that_runs_cove(python: SimpleNamespace) -> None:
    assert pip.command("some-package") == "'/my python/bin/python3' -m pip install some-package"


def test_on_windows_it_is_quoted_as_windows_does(python: SimpleNamespace) -> None:
    python.platform, python.executable = "win32", r"C:\my python\python.exe"
    assert pip.command("some-package") == r'"C:\my python\python.exe" -m pip install some-package'


def test_a_python_without_pip_has_none(python: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip, "find_spec", lambda _: None)
    assert pip.command("some-package") is None


def test_a_python_that_belongs_to_the_system_takes_none(python: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "EXTERNALLY-MANAGED").write_text("")
    assert pip.command("some-package") is None
    python.prefix = "/home/me/venv"  # an environment made of it does
    assert pip.command("some-package") is not None


def test_this_python_has_it() -> None:
    told = pip.command("some-package")
    assert told is None or sys.executable in told
