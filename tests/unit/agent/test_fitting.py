"""What a start says of settings that this computer cannot hold, and when a changed setting needs one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from cove.machine import computer, settings


def test_a_start_tells_of_what_is_unwise(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = cove.make()
    settings.set_value(paths.settings, "cpus", "256")
    monkeypatch.setenv("COVE_BIND_ADDRESS", "203.0.113.9")
    said = cove.run("machine", "start").stderr
    assert f"cpus: 256 are more than this computer has ({os.cpu_count()}), which makes a machine slower" in said
    assert "COVE_BIND_ADDRESS: bind_address: 203.0.113.9 is none of this computer's addresses now" in said


def test_a_start_with_more_memory_than_there_is_tells_so_and_tries(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cove.make()
    monkeypatch.setenv("COVE_MEMORY", "15TiB")
    said = cove.run("machine", "start").stderr
    assert "COVE_MEMORY: memory: 15TiB is more than this computer has (" in said
    assert cove.status()["memory"] == 15 << 40


def test_a_start_is_refused_before_it_takes_time(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cove.make()
    monkeypatch.setenv("COVE_ACCELERATOR", "hvf")
    said = cove.run("machine", "start", status=1).stderr
    assert "COVE_ACCELERATOR: accelerator: hvf is of macOS, and this computer has Linux" in said
    assert "unset COVE_ACCELERATOR" in said


def test_a_restart_is_refused_while_the_machine_runs(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    before = cove.status()["pid"]
    settings.set_value(paths.settings, "accelerator", "hvf")
    assert "hvf is of macOS" in cove.run("machine", "restart", status=1).stderr
    assert cove.status()["pid"] == before


def test_a_restart_is_needed_for_what_the_vm_has_not(cove: Any) -> None:
    cove.make()
    cove.run("machine", "start")
    assert cove.run("config", "set", "cpus", "2").stdout == "machine default: cpus = 2, as it was\n"
    after = "in effect after: cove machine restart default\n"
    assert cove.run("config", "set", "cpus", "1").stdout == f"machine default: cpus = 1, {after}"
    assert cove.run("config", "set", "cpus", "1").stdout == f"machine default: cpus = 1, as it was; {after}"
    assert cove.run("config", "set", "cpus", "2").stdout == "machine default: cpus = 2, which it runs with\n"
    assert json.loads(cove.run("config", "set", "cpus", "2", "--json").stdout)["restart_needed"] is False


def test_a_suspended_state_outlives_settings_that_are_changed_and_set_back(cove: Any) -> None:
    cove.make()
    cove.run("machine", "start")
    cove.run("machine", "suspend")
    for key, other, back in (("cpus", "1", "2"), ("memory", "1GiB", "2GiB"), ("disk", "70GiB", "60GiB")):
        said = cove.run("config", "set", key, other).stdout
        assert "in effect after: cove machine restart default (it is suspended" in said
        assert cove.run("config", "set", key, back).stdout.endswith(", in effect when it wakes\n")
    assert cove.run("config", "set", "share_home", "read-only").stdout.endswith(", in effect when it wakes\n")
    assert "going on where it was suspended" in cove.run("machine", "start").stderr
    status = cove.status()
    assert (status["start"], status["cpus"], status["memory"]) == ("resumed", 2, 2 << 30)
    assert cove.run("config", "set", "share_home", "read-write").stdout.endswith("machine restart default\n")
    assert cove.run("config", "set", "share_home", "read-only").stdout.endswith(", which it runs with\n")


def test_of_a_vm_of_an_older_cove_what_has_changed_needs_a_restart(cove: Any) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    kept = json.loads(paths.run_state.read_text())
    del kept["settings"]
    paths.run_state.write_text(json.dumps(kept))
    assert cove.run("config", "set", "cpus", "2").stdout == "machine default: cpus = 2, as it was\n"
    assert cove.run("config", "set", "cpus", "1").stdout.endswith("machine restart default\n")


def test_a_machine_for_which_any_hypervisor_will_do_is_made_without_loading_one(cove: Any) -> None:
    """What makes and changes machines is quick; the drivers are for those that run them."""
    script = (
        "import sys\nfrom cove.agent import fit\nfrom cove.machine.paths import MachinePaths\n"
        "from cove.machine.settings import Settings\nfit.misfits(MachinePaths('default'), Settings())\n"
        "print(*(name for name in sys.modules if name in ('cove.agent.hypervisor', 'cove.drivers.qemu.driver')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


def test_an_address_of_this_computer_is_known() -> None:
    assert computer.has_address("127.0.0.1")
    assert computer.has_address("0.0.0.0")
    assert not computer.has_address("203.0.113.9")
    assert (computer.memory() or 1 << 40) > 1 << 26
