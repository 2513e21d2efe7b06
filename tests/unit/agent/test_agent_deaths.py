"""What docker's clients and `cove` meet when the VM or the agent dies, and how a start is given up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest
from cove.agent import threads
from cove.agent.threads import abandonable
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths

Eventually = Callable[..., None]


def connect(paths: MachinePaths) -> socket.socket:
    """A docker client. The stand-in's engine repeats what it hears."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(paths.docker_socket))
    return client


def repeats(paths: MachinePaths) -> bool:
    with connect(paths) as client:
        client.sendall(b"are you there?")
        return client.recv(100) == b"are you there?"


def lives(pid: int) -> bool:
    """Also while only its first thread has ended: another may be about to accept a client."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text() or len([*Path(f"/proc/{pid}/task").iterdir()]) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int) -> None:
    """Returns when it is dead: until then it may still take a client with it."""
    os.kill(pid, signal.SIGKILL)
    while lives(pid):
        time.sleep(0.001)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_client_starts_a_machine_whose_vm_has_died(cove: Any, eventually: Eventually) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    before = cove.status()
    with connect(paths) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        os.kill(before["pid"], signal.SIGKILL)
        assert client.recv(1) == b""
    eventually(lambda: cove.status()["state"] == "stopped")
    assert cove.status()["crash"]["how"] == "QEMU was killed by SIGKILL"
    assert repeats(paths)
    after = cove.status()
    assert (after["state"], after["agent_pid"]) == ("running", before["agent_pid"])
    assert after["boot_id"] != before["boot_id"]
    kill(after["pid"])  # and a client that comes before the agent has heard of it
    assert repeats(paths)


def test_a_vms_last_words_are_those_of_its_own_run_and_bear_on_its_end(cove: Any, eventually: Eventually) -> None:
    paths = cove.make()
    of_a_container = "[  128.2] Memory cgroup out of memory: Killed process 203 (tail) total-vm:22428kB\n"
    for _ in range(2):
        cove.run("machine", "start")
        with paths.console_log.open("a") as console:
            console.write(of_a_container * 5)
        pid = cove.status()["pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: cove.status()["state"] == "stopped")
        assert cove.status()["crash"]["words"] == ["the kernel booted", "the guest is up"]
    cove.run("machine", "start")
    with paths.console_log.open("a") as console:
        console.write(of_a_container + "\n[  130.1] Kernel panic - not syncing\n" + of_a_container)
    os.kill(cove.status()["pid"], signal.SIGKILL)
    eventually(lambda: cove.status()["state"] == "stopped")
    assert cove.status()["crash"]["words"][1:] == ["the guest is up", "[  130.1] Kernel panic - not syncing"]


def test_coves_own_commands_show_the_progress_of_that_start(cove: Any, eventually: Eventually) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    assert not paths.down.exists()
    os.kill(cove.status()["pid"], signal.SIGKILL)
    eventually(paths.down.exists)
    errors = cove.run("ps", status=None).stderr  # the stand-in's engine does not speak HTTP
    assert errors.startswith("Cove is starting its machine\n  machine  default: 2 CPUs")
    assert cove.status()["state"] == "running"
    assert not paths.down.exists()


def test_a_client_is_told_why_the_machine_does_not_start(cove: Any, eventually: Eventually) -> None:
    paths = cove.make()
    good = paths.settings.read_text()
    cove.run("machine", "start")
    paths.settings.write_text("cpus = 0\n")
    os.kill(cove.status()["pid"], signal.SIGKILL)
    eventually(paths.down.exists)
    for _ in range(2):
        environment = {**os.environ, "DOCKER_HOST": f"unix://{paths.docker_socket}"}
        done = subprocess.run(["docker", "ps"], env=environment, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error response from daemon: {paths.settings}:1:8: cpus must be a whole number")
    paths.settings.write_text(good)
    assert repeats(paths)


def test_dockers_own_sdk_is_told_when_the_vm_dies_before_the_answer(cove: Any, eventually: Eventually) -> None:
    paths = cove.make()
    cove.faults = "deaf"
    cove.run("machine", "start")
    pid = cove.status()["pid"]
    client = docker.APIClient(f"unix://{paths.docker_socket}", version="1.43", timeout=60)
    with contextlib.closing(client), ThreadPoolExecutor() as threads:
        asked = threads.submit(client.containers)
        eventually((paths.folder / "asked").exists)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(docker.errors.APIError) as told:
            asked.result(60)
    assert told.value.status_code == 502
    said = "the machine default or its engine ended before it answered: what was asked for may have been done\n"
    assert told.value.explanation == f"{said}see how it is with: cove machine status default"


def test_a_machine_whose_vm_has_died_is_stopped_and_removed_as_any(cove: Any, eventually: Eventually) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    pid = cove.status()["agent_pid"]
    os.kill(cove.status()["pid"], signal.SIGKILL)
    eventually(paths.down.exists)
    cove.run("machine", "stop")
    assert not lives(pid)
    assert not paths.docker_socket.exists()
    assert "crash" not in cove.status()
    cove.run("machine", "start")
    os.kill(cove.status()["pid"], signal.SIGKILL)
    eventually(paths.down.exists)
    cove.run("machine", "rm", "--force")
    assert not paths.folder.exists()


def test_a_killed_agent_is_replaced_at_once_and_no_client_is_refused(cove: Any) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    before = cove.status()
    kill(before["agent_pid"])
    assert repeats(paths)
    after = cove.status()
    assert (after["state"], after["boot_id"], after["pid"]) == ("running", before["boot_id"], before["pid"])
    assert after["boot_seconds"] == before["boot_seconds"] > 0  # the VM's, not what it took the agent to find it again
    assert after["agent_pid"] != before["agent_pid"]
    assert parent(after["agent_pid"]) != 1


def test_an_agent_that_is_killed_while_nothing_runs_starts_nothing_by_itself(cove: Any, eventually: Eventually) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    before = cove.status()
    os.kill(before["pid"], signal.SIGKILL)
    eventually(paths.down.exists)
    os.kill(before["agent_pid"], signal.SIGKILL)
    assert cove.status()["state"] == "stopped"
    assert FileLock(paths.vm_lock).is_free()
    assert repeats(paths)


def test_an_agent_that_dies_again_and_again_is_let_go(cove: Any, eventually: Eventually) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    supervisor = parent(cove.status()["agent_pid"])
    for _ in range(3):
        assert repeats(paths)
        kill(cove.status()["agent_pid"])
    eventually(lambda: not lives(supervisor))
    assert not paths.docker_socket.exists()
    told = cove.status()
    assert (told["state"], told["agent_pid"]) == ("running", None)  # the VM, at least
    assert "has died 3 times" in paths.agent_log.read_text()
    cove.run("machine", "start")
    assert repeats(paths)


def test_an_agent_that_is_interrupted_is_not_replaced(cove: Any, eventually: Eventually) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    supervisor = parent(cove.status()["agent_pid"])
    os.kill(cove.status()["agent_pid"], signal.SIGINT)
    eventually(lambda: not lives(supervisor))
    assert cove.status()["state"] == "running"
    assert not paths.docker_socket.exists()


def test_the_supervisor_is_small(cove: Any) -> None:
    cove.make()
    cove.run("machine", "start")
    pid = parent(cove.status()["agent_pid"])
    assert b"cove.agent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    assert int(lines["Rss"].split()[0]) < 14 << 10
    assert int(lines["Pss"].split()[0]) < 12 << 10


@pytest.fixture
def never_ready(cove: Any, eventually: Eventually) -> subprocess.Popen[str]:
    """A start whose guest boots and boots."""
    paths = cove.make()
    cove.faults = "silent"
    start: subprocess.Popen[str] = cove.spawn("machine", "start")
    eventually(lambda: paths.run_state.exists())
    return start


def gone(cove: Any, eventually: Eventually) -> bool:
    """Neither VM nor agent is left."""
    paths = MachinePaths("default")
    eventually(FileLock(paths.lock).is_free)
    return FileLock(paths.vm_lock).is_free() and cove.status()["state"] == "stopped"


def test_stop_ends_a_start_that_is_under_way(cove: Any, never_ready: Any, eventually: Eventually) -> None:
    begin = time.monotonic()
    cove.run("machine", "stop")
    assert time.monotonic() - begin < 60
    out, errors = never_ready.communicate(timeout=60)
    assert never_ready.returncode == 1
    assert out == ""
    assert errors.endswith(
        "cove: the start of machine default was given up\n      start it again with: cove machine start default\n"
    )
    assert gone(cove, eventually)
    assert "crash" not in cove.status()


def test_ctrl_c_ends_a_start_that_is_under_way(cove: Any, never_ready: Any, eventually: Eventually) -> None:
    never_ready.send_signal(signal.SIGINT)
    _, errors = never_ready.communicate(timeout=60)
    assert never_ready.returncode == 130
    assert "cove: the start of machine default was given up\n" in errors
    assert "Traceback" not in errors
    assert gone(cove, eventually)


def test_ctrl_c_does_not_end_what_somebody_else_waits_for(cove: Any, never_ready: Any, eventually: Eventually) -> None:
    other = cove.spawn("machine", "start")
    assert other.stderr is not None
    assert "starting machine default" in other.stderr.readline()
    never_ready.send_signal(signal.SIGINT)
    _, errors = never_ready.communicate(timeout=60)
    assert never_ready.returncode == 130
    assert "cove: somebody else waits for the machine: its start goes on\n" in errors
    assert cove.status()["state"] == "starting"
    other.send_signal(signal.SIGINT)
    assert "was given up" in other.communicate(timeout=60)[1]
    assert other.returncode == 130
    assert gone(cove, eventually)


def test_a_client_that_vanishes_does_not_end_the_start(cove: Any, never_ready: Any) -> None:
    never_ready.kill()
    never_ready.communicate()
    time.sleep(0.2)
    assert cove.status()["state"] == "starting"


@pytest.fixture(params=["the engine answers nobody", "the link is not there"])
def cut_off(
    cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually, request: pytest.FixtureRequest
) -> dict[str, Any]:
    """The status of a machine whose VM runs, and whose agent has died and does not come to its engine again."""
    vain = cove.home / "vain"
    cove.wait_less(monkeypatch, 1, "BOOT_TIMEOUT_S", there=vain)
    cove.wait_less(monkeypatch, 0.3, "POWER_OFF_S", "BUTTON_S", "QUIT_S", there=vain)
    paths = cove.make()
    cove.run("machine", "start")
    vain.touch()
    before: dict[str, Any] = cove.status()
    if "link" in request.param:
        paths.link_socket.unlink()
    else:
        (paths.folder / "mute").touch()
    kill(before["agent_pid"])
    return before


def test_a_vm_whose_engine_does_not_answer_goes_on(cove: Any, cut_off: dict[str, Any]) -> None:
    for _ in range(2):
        failed = cove.run("machine", "start", status=1).stderr
        assert "Its VM goes on, and so do its containers. End it with: cove machine stop default\n" in failed
        status = cove.status()
        assert (status["state"], status["boot_id"]) == ("running", cut_off["boot_id"])
        assert lives(cut_off["pid"])
        assert status["agent_pid"] not in (None, cut_off["agent_pid"])
    paths = MachinePaths("default")
    if (paths.folder / "mute").exists():
        (paths.folder / "mute").unlink()
        assert repeats(paths)
        assert cove.status()["boot_id"] == cut_off["boot_id"]


def test_it_goes_on_when_the_supervisor_has_died_as_well(
    cove: Any, cut_off: dict[str, Any], eventually: Eventually
) -> None:
    cove.run("machine", "start", status=1)
    agent = cove.status()["agent_pid"]
    kill(parent(agent))
    kill(agent)
    for _ in range(2):
        assert "Its VM goes on" in cove.run("machine", "start", status=1).stderr
        eventually(FileLock(MachinePaths("default").lock).is_free)
        assert cove.status()["state"] == "running"
        assert lives(cut_off["pid"])
    cove.run("machine", "stop")
    assert cove.status()["state"] == "stopped"


@pytest.mark.parametrize("waits", [True, False])
def test_it_is_stopped_without_its_engine(
    cove: Any, cut_off: dict[str, Any], eventually: Eventually, waits: bool
) -> None:
    """``waits``: for the end of a start that is in vain."""
    if waits:
        cove.run("machine", "start", status=1)
    told = cove.run("machine", "stop").stderr
    assert "pressing the power button" in told
    assert cove.status()["state"] == "stopped"
    assert gone(cove, eventually)
    (MachinePaths("default").folder / "mute").unlink(missing_ok=True)
    (cove.home / "vain").unlink()
    cove.run("machine", "start")


def test_a_stop_does_not_wait_for_the_engine_for_long(
    cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    cove.wait_less(monkeypatch, 0.5, "cove.agent.service.TAKING_OVER_S")
    paths = cove.make()
    cove.run("machine", "start")
    (paths.folder / "mute").touch()
    kill(cove.status()["agent_pid"])
    begin = time.monotonic()
    assert "pressing the power button" in cove.run("machine", "stop").stderr
    assert time.monotonic() - begin < 60
    assert gone(cove, eventually)


def test_one_that_was_left_and_answers_by_now_is_stopped_in_order(
    cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    cove.wait_less(monkeypatch, 1, "BOOT_TIMEOUT_S", there=cove.home / "vain")
    paths = cove.make()
    cove.run("machine", "start")
    (cove.home / "vain").touch()
    (paths.folder / "mute").touch()
    kill(cove.status()["agent_pid"])
    cove.run("machine", "start", status=1)
    (paths.folder / "mute").unlink()
    told = cove.run("machine", "stop").stderr
    assert "stopping containers and powering off" in told
    assert "power button" not in told
    assert gone(cove, eventually)


def test_a_vm_that_nobody_can_speak_to_is_ended_and_that_is_said(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cove.wait_less(monkeypatch, 1, "cove.drivers.qemu.driver.QMP_TIMEOUT_S")
    paths = cove.make()
    cove.run("machine", "start")
    before = cove.status()
    os.kill(before["pid"], signal.SIGSTOP)
    os.killpg(os.getpgid(before["agent_pid"]), signal.SIGKILL)
    told = cove.run("machine", "start").stderr
    assert "its VM did not answer and was ended, as by a power cut" in told
    assert f"QEMU (process {before['pid']}) is ended" in paths.agent_log.read_text()
    assert cove.status()["boot_id"] != before["boot_id"]


def test_a_stop_of_one_that_nobody_can_speak_to_boots_no_other(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cove.wait_less(monkeypatch, 1, "cove.drivers.qemu.driver.QMP_TIMEOUT_S")
    paths = cove.make()
    cove.run("machine", "start")
    before = cove.status()
    os.kill(before["pid"], signal.SIGSTOP)
    os.killpg(os.getpgid(before["agent_pid"]), signal.SIGKILL)
    told = cove.run("machine", "stop").stderr
    assert "its VM did not answer and was ended, as by a power cut" in told
    assert "loading the system" not in told and "waiting for the engine" not in told
    assert paths.qemu_log.read_text().count("--- QEMU ") == 1
    assert cove.status()["state"] == "stopped"


def test_a_suspension_takes_over_a_vm_that_was_left(
    cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    cove.wait_less(monkeypatch, 1, "BOOT_TIMEOUT_S")
    paths = cove.make()
    cove.run("machine", "start")
    (paths.folder / "mute").touch()
    kill(cove.status()["agent_pid"])
    failed = cove.run("machine", "suspend", status=1).stderr
    assert re.search(r"its engine did not answer within [1-3] s", failed)  # more on a busy computer
    assert "Its VM goes on, and so do its containers. End it with: cove machine stop default\n" in failed
    (paths.folder / "mute").unlink()
    cove.run("machine", "suspend")
    assert cove.status()["state"] == "suspended"


def test_one_whose_data_are_to_go_is_not_waited_for_when_it_was_left(
    cove: Any, cut_off: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cove.run("machine", "start", status=1)
    told = cove.run("machine", "rm", "--force").stderr
    assert "switching it off" in told
    assert "power button" not in told
    assert not lives(cut_off["pid"])
    assert not MachinePaths("default").folder.exists()


def test_a_removal_does_not_wait_for_a_stop_that_is_under_way(
    cove: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    cove.wait_less(monkeypatch, 0.5, "FORCED_OFF_S")
    cove.wait_less(monkeypatch, 600, "POWER_OFF_S")
    paths = cove.make()
    cove.faults = "no-shutdown"
    cove.run("machine", "start")
    stop = cove.spawn("machine", "stop")
    eventually(lambda: "stopping containers and powering off" in paths.agent_log.read_text())
    assert "switching it off" in cove.run("machine", "rm", "--force").stderr
    assert not paths.folder.exists()
    _, told = stop.communicate(timeout=60)
    assert "power button" not in told


def test_work_that_nobody_waits_for_holds_nobody_up() -> None:
    over = threading.Event()

    async def give_up() -> None:
        task = asyncio.create_task(abandonable(over.wait, 30))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    begin = time.monotonic()
    asyncio.run(give_up())
    assert time.monotonic() - begin < 20
    assert not over.is_set()
    threads.linger(0.1)
    assert time.monotonic() - begin < 25
    threading.Timer(0.2, over.set).start()
    threads.linger(60)
    assert over.is_set()
    assert time.monotonic() - begin < 55

    async def wait() -> tuple[str, bool]:
        with pytest.raises(ValueError, match="Expecting value"):
            await abandonable(json.loads, "nonsense")
        return await abandonable(str.upper, "done"), True

    assert asyncio.run(wait()) == ("DONE", True)
