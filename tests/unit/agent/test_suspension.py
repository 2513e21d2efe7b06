"""`cove machine suspend`, and what becomes of a suspended machine."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from cove.agent.launch import ensure_running
from cove.machine.paths import MachinePaths


@pytest.fixture
def paths(cove: Any) -> MachinePaths:
    made: MachinePaths = cove.make()
    cove.run("machine", "start")
    cove.run("machine", "suspend")
    return made


def test_a_suspended_machine_goes_on_at_the_next_start(cove: Any, paths: MachinePaths) -> None:
    assert cove.status()["state"] == "suspended"
    assert cove.run("machine", "suspend").stdout == "machine default is suspended\n"
    assert "going on where it was suspended" in cove.run("machine", "resume").stderr
    status = cove.status()
    assert (status["state"], status["start"]) == ("running", "resumed")
    assert not paths.suspended.exists()
    assert not paths.suspended_run.exists()
    cove.run("machine", "stop")
    cove.run("machine", "start")
    assert cove.status()["start"] == "template"


def test_a_client_of_the_docker_socket_wakes_it(cove: Any, paths: MachinePaths) -> None:
    ensure_running("default")
    assert cove.status()["start"] == "resumed"


def test_the_agents_death_does_not_end_the_sleep(cove: Any, paths: MachinePaths) -> None:
    cove.end()
    assert cove.status()["state"] == "suspended"
    cove.run("machine", "start")
    assert cove.status()["start"] == "resumed"


def test_a_stop_wakes_it_first_so_that_containers_end_in_order(cove: Any, paths: MachinePaths) -> None:
    cove.run("machine", "stop")
    assert cove.status()["state"] == "stopped"
    assert not paths.suspended.exists()


def test_a_state_that_does_not_fit_any_more_is_told(cove: Any, paths: MachinePaths) -> None:
    cove.run("machine", "config", "set", "cpus", "1")
    said = cove.run("machine", "start").stderr
    assert "its suspended state cannot be used, so it boots as after a power cut: QEMU, the image" in said
    assert cove.status()["start"] == "cold"
    assert not paths.suspended.exists()


def test_a_state_is_used_once_even_when_that_fails(cove: Any, paths: MachinePaths) -> None:
    cove.end()
    cove.faults = "bad-template"
    assert "its suspended state cannot be used" in cove.run("machine", "start").stderr
    assert cove.status()["start"] == "cold"
    assert not paths.suspended_run.exists()


def test_a_qemu_that_outlives_its_suspension_is_not_taken_over(cove: Any) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    pid = cove.status()["pid"]
    paths.suspended.write_bytes(b"")
    paths.suspended_run.write_bytes(paths.run_state.read_bytes())  # its agent dies before it has told QEMU to end
    os.kill(cove.status()["agent_pid"], signal.SIGKILL)
    cove.run("machine", "start")
    assert cove.status()["pid"] != pid
    assert cove.status()["start"] == "resumed"


def test_what_cannot_be_saved_goes_on(cove: Any) -> None:
    paths = cove.make()
    cove.faults = "no-save"
    cove.run("machine", "start")
    pid = cove.status()["pid"]
    assert "QEMU says that it has failed" in cove.run("machine", "suspend", status=1).stderr
    status = cove.status()
    assert (status["state"], status["pid"]) == ("running", pid)
    assert not paths.suspended.exists()
    assert "QEMU says that it has failed" in cove.run("machine", "suspend", status=1).stderr


def test_a_suspended_machine_can_be_removed(cove: Any, paths: MachinePaths) -> None:
    cove.run("machine", "rm", "--force")
    assert not paths.folder.exists()
