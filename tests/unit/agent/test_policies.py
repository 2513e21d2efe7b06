"""An administrator's policy, as `cove` and the agent meet it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def policy(cove: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is for all programs that start from now on; it is not there yet."""
    file = Path(cove.home / "etc" / "policy.toml")
    file.parent.mkdir(mode=0o755)
    site = cove.home / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import sys\nfrom pathlib import Path\n"
        "if sys.argv[0] == '-m' and not {'cove', 'cove.agent'}.isdisjoint(sys.orig_argv):\n"
        f"    from cove.machine import policy\n    policy.place = lambda: Path({str(file)!r})\n"
        f"    policy.OWNER = {os.getuid()}\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return file


def test_locked_settings_hold_against_commands_and_the_environment(
    cove: Any, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cove.make()
    policy.write_text("[locked]\ncpus = 1\n")
    told = cove.run("config", "set", "cpus", "3", status=1)
    assert told.stderr.startswith(f"cove: cpus is locked to 1 by your administrator's policy ({policy})\n")
    assert told.stdout == ""
    monkeypatch.setenv("COVE_CPUS", "4")
    monkeypatch.setenv("COVE_MEMORY", "1GiB")  # not locked
    cove.run("machine", "start")
    status = cove.status()
    assert (status["cpus"], status["memory"]) == (1, 1 << 30)


def test_a_machine_that_slept_through_a_change_of_the_policy_starts_anew(cove: Any, policy: Path) -> None:
    cove.make()
    cove.run("machine", "start")
    cove.run("machine", "suspend")
    policy.write_text('allowed_registries = ["docker.io"]\n[locked]\ncpus = 1\n')
    assert "your administrator's policy has changed since it was suspended" in cove.run("machine", "start").stderr
    status = cove.status()
    assert (status["start"], status["cpus"]) in [("template", 1), ("cold", 1)]
    cove.run("machine", "suspend")
    policy.write_text('allowed_registries = ["docker.io"]\n\n[locked]\ncpus = 1  # as before\n')
    cove.run("machine", "start")
    assert cove.status()["start"] == "resumed"


def test_a_policy_that_cannot_be_trusted_starts_nothing(cove: Any, policy: Path) -> None:
    cove.make()
    policy.write_text("")
    policy.chmod(0o666)
    assert "others than root may write to" in cove.run("machine", "start", status=1).stderr
    assert cove.status()["state"] == "stopped"
