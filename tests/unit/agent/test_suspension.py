"""`cove machine suspend`, and what becomes of a suspended machine."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest
from cove.agent.client import ask
from cove.agent.launch import ensure_running
from cove.errors import CoveError
from cove.machine import runstate, suspended
from cove.machine.paths import MachinePaths
from cove.progress import Event


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


def test_a_machine_that_fell_asleep_just_before_it_was_told_to_stop_ends_in_order(paths: MachinePaths) -> None:
    said: list[str] = []
    ask(paths, "stop", 30, lambda event: said.append(event.text))
    assert "going on where it was suspended" in said
    assert "stopping containers and powering off" in said
    assert not paths.suspended_run.exists()


def test_one_whose_data_are_to_go_is_not_woken_for_that(paths: MachinePaths) -> None:
    ask(paths, "stop", 30, in_order=False)
    assert paths.suspended_run.exists()


def test_a_machine_that_cannot_be_woken_is_not_said_to_be_stopped(cove: Any, paths: MachinePaths) -> None:
    cove.qemu.rename(cove.home / "elsewhere")
    with pytest.raises(CoveError, match="is not a program that can be run"):
        ask(paths, "stop", 30)
    assert paths.suspended_run.exists()


def test_how_far_it_is_is_told_while_it_takes_long(
    cove: Any, eventually: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = cove.make()
    cove.wait_less(monkeypatch, 0.1, "TELL_S")
    cove.faults = "endless-save"
    cove.run("machine", "start")
    with cove.spawn("machine", "suspend") as suspending:
        eventually((paths.folder / "saving").exists)
        with pytest.raises(EnoughError):
            ask(paths, "ready", 30, _enough)  # who waits for its end is told as well
        os.kill(cove.status()["agent_pid"], signal.SIGKILL)
        suspending.kill()


class EnoughError(Exception):
    """All that was to be heard has been."""


def _enough(event: Event) -> None:
    assert (event.text, event.done, event.total) == ("writing its memory to the disk", 3 << 20, 4 << 20)
    raise EnoughError


def test_it_goes_on_with_the_settings_that_it_was_started_with(cove: Any, paths: MachinePaths) -> None:
    cove.run("machine", "config", "set", "cpus", "1")
    cove.run("machine", "start")
    status = cove.status()
    assert (status["start"], status["cpus"]) == ("resumed", 2)
    cove.run("machine", "restart")
    assert cove.status()["cpus"] == 1


def test_it_goes_on_with_other_folders(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtiofs has the VM's memory shared, which its state depends on: with the last folder that does not go."""
    programs, shared = cove.home / "bin", cove.home / "shared"
    programs.mkdir()
    shared.mkdir()
    (programs / "virtiofsd").write_text("#!/bin/sh\necho --shared-dir\n")
    (programs / "virtiofsd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    cove.qemu.write_text(cove.qemu.read_text().replace(" in\n", ' in\n*",help "*) exit 0 ;;\n', 1))
    cove.make()
    for name, value in (("folder_driver", "virtiofs"), ("share_home", "no"), ("shared_folders", str(shared))):
        cove.run("machine", "config", "set", name, value)
    cove.run("machine", "start")
    assert (cove.status()["folder_driver"], len(cove.status()["folders"])) == ("virtiofs", 1)
    for value, folders in (("", 0), (str(shared), 1)):
        cove.run("machine", "suspend")
        cove.run("machine", "config", "set", "shared_folders", value)
        cove.run("machine", "start")
        assert (cove.status()["start"], len(cove.status()["folders"])) == ("resumed", folders)


def change_qemu(paths: MachinePaths) -> None:
    told = json.loads(paths.suspended_run.read_text())
    told["run"]["kind"] = "0" * 64
    paths.suspended_run.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_qemu, "QEMU or what accelerates it is another one now"),
        (lambda paths: os.utime(paths.disk, (1, 1)), "data.qcow2 was changed since"),
    ],
)
def test_a_state_that_does_not_fit_any_more_is_told(
    cove: Any, paths: MachinePaths, change: Callable[[MachinePaths], None], said: str
) -> None:
    change(paths)
    told = cove.run("machine", "start").stderr
    assert "its suspended state cannot be used, so it boots as after a power cut" in told
    assert said in told
    assert cove.status()["start"] == "template"
    assert not paths.suspended.exists()


def test_a_note_that_cannot_be_read_is_not_found_again_later(cove: Any, paths: MachinePaths) -> None:
    paths.suspended_run.write_text("{}")
    cove.run("machine", "start")
    assert cove.status()["start"] == "template"
    assert [path.name for path in paths.folder.glob("suspended*")] == []


def test_what_was_being_written_when_an_agent_was_killed_is_removed(cove: Any, paths: MachinePaths) -> None:
    for file in (paths.run_state, paths.suspended_run):
        file.with_name(f".{file.name}.abc").touch()
    cove.run("machine", "start")
    assert cove.status()["start"] == "resumed"
    assert [path.name for path in paths.folder.glob(".*")] == []


def test_an_agent_that_dies_amid_a_suspension_costs_nothing(cove: Any, eventually: Callable[..., None]) -> None:
    paths = cove.make()
    cove.faults = "endless-save"
    cove.run("machine", "start")
    status = cove.status()
    with cove.spawn("machine", "suspend") as suspending:
        eventually((paths.folder / "saving").exists)
        suspending.kill()  # or it may ask the next agent for the same
        os.kill(status["agent_pid"], signal.SIGKILL)
    cove.run("machine", "start")
    assert cove.status()["pid"] == status["pid"]
    assert cove.status()["state"] == "running"
    assert [path.name for path in paths.folder.glob("suspended*")] == []


def test_who_comes_amid_a_suspension_waits_for_its_end(cove: Any, eventually: Callable[..., None]) -> None:
    cove.make()
    cove.run("machine", "start")
    with cove.spawn("machine", "suspend") as suspending:
        eventually(lambda: suspending.poll() is not None or cove.status()["state"] == "suspended")
        ensure_running("default")
        assert suspending.wait(20) == 0
    assert cove.status()["start"] == "resumed"


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
    run = runstate.load(paths)
    assert run is not None
    suspended.note(paths, run, ended=False)  # its agent dies before it has told QEMU to end
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


def test_one_that_was_started_so_that_it_cannot_be_saved_says_what_to_do_instead(cove: Any) -> None:
    cove.make("other")
    cove.run("machine", "start", "other")
    told = MachinePaths("other").run_state
    told.write_text(json.dumps(json.loads(told.read_text()) | {"kind": ""}))
    os.kill(cove.status("other")["agent_pid"], signal.SIGKILL)
    cove.run("machine", "start", "other")  # the next agent has taken it over
    refused = cove.run("machine", "suspend", "other", status=1).stderr
    assert "the machine other cannot be suspended: " in refused
    assert "stop it instead: cove machine stop other\n" in refused


def test_who_is_connected_keeps_a_machine_from_being_suspended(cove: Any) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(paths.docker_socket))
        client.sendall(b"x")
        assert client.recv(1) == b"x"  # the stand-in's engine is an echo
        told = cove.run("machine", "suspend", status=1).stderr
        assert "the machine default is in use: a docker client is connected" in told
        assert "cove machine suspend --force default" in told
        assert cove.status()["state"] == "running"
        cove.run("machine", "suspend", "--force")
        assert client.recv(1) == b""
    assert cove.status()["state"] == "suspended"


def test_a_suspended_machine_can_be_removed(cove: Any, paths: MachinePaths) -> None:
    cove.run("machine", "rm", "--force")
    assert not paths.folder.exists()
