"""A machine that nobody uses suspends itself, and wakes when somebody does (docs/decisions/0051)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import virtual_time
from cove.agent.client import SUSPEND, ask, held
from cove.agent.idle import Idle, Wish
from cove.machine.paths import MachinePaths

Eventually = Callable[..., None]
SOON_S = 2.5
"""Longer than the machines here stay awake without being used."""


def start(cove: Any, monkeypatch: pytest.MonkeyPatch, faults: str, after: str = "1s") -> MachinePaths:
    paths: MachinePaths = cove.make()
    monkeypatch.setenv("COVE_SUSPEND_AFTER", after)
    cove.faults = faults
    cove.run("machine", "start")
    return paths


def connect(paths: MachinePaths) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(paths.docker_socket))
    return client


def repeats(client: socket.socket) -> bool:
    """The stand-in's engine is an echo."""
    client.sendall(b"are you there?")
    return client.recv(100) == b"are you there?"


def stays_awake(cove: Any) -> bool:
    deadline = time.monotonic() + SOON_S
    while time.monotonic() < deadline:
        if cove.status()["state"] != "running":
            return False
    return True


def test_it_sleeps_while_nobody_uses_it_and_wakes_for_a_client(
    cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    paths = start(cove, monkeypatch, "idle")
    for _ in range(2):  # once more, when it has been woken
        eventually(paths.suspended_run.exists)
        eventually(lambda: cove.status()["state"] == "suspended")
        told = cove.status()
        assert abs(told["suspended_at"] - told["idle_since"]) < 30
        assert not paths.down.exists()  # who wakes it is told nothing of a start
        assert "(idle since " in cove.run("machine", "status").stdout
        assert "wakes by itself" in cove.run("machine", "status").stdout
        with connect(paths) as client:
            assert repeats(client)
            status = cove.status()
            assert (status["state"], status["start"]) == ("running", "resumed")
            assert not paths.suspended_run.exists()


def test_who_is_connected_keeps_it_awake(cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually) -> None:
    paths = start(cove, monkeypatch, "idle")
    with connect(paths) as client:
        assert stays_awake(cove)
        assert cove.status()["idle_since"] is None
        assert repeats(client)
        awake = contextlib.ExitStack()
        awake.enter_context(held(paths))
    with awake:
        assert stays_awake(cove)
    eventually(lambda: cove.status()["state"] == "suspended")


@pytest.mark.parametrize("fault", ["slow-save", "endless-save"])
def test_who_comes_while_it_falls_asleep_is_served_by_the_machine_that_goes_on(
    cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually, fault: str
) -> None:
    paths = start(cove, monkeypatch, f"idle {fault}")
    before = cove.status()
    for _ in range(2):  # once more, when they have gone
        eventually((paths.folder / "saving").exists)
        clients = [connect(paths) for _ in range(3)]
        eventually(lambda: cove.status()["idle_since"] is None)  # the agent knows of them
        (paths.folder / "saving").unlink()
        assert all(repeats(client) for client in clients)
        assert (cove.status()["pid"], cove.status()["start"]) == (before["pid"], before["start"])
        assert [path.name for path in paths.folder.glob("suspended*")] == []
        for client in clients:
            client.close()


def test_one_that_falls_asleep_goes_on_for_whoever_asks_for_it_and_then_counts_anew(
    cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    paths = start(cove, monkeypatch, "idle endless-save")
    for _ in range(2):
        eventually((paths.folder / "saving").exists)
        (paths.folder / "saving").unlink()
        cove.run("machine", "start")
        assert cove.status()["state"] == "running"
    eventually((paths.folder / "saving").exists)
    cove.run("machine", "stop")
    assert cove.status()["state"] == "stopped"


def test_who_asks_for_a_suspension_gets_one_though_another_was_under_way_and_is_given_up(
    cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    cove.wait_less(monkeypatch, 0.1, "TELL_S")
    paths = start(cove, monkeypatch, "idle endless-save")
    eventually((paths.folder / "saving").exists)
    with ThreadPoolExecutor() as pool:
        joined = threading.Event()
        asked = pool.submit(ask, paths, SUSPEND, 30, lambda _: joined.set())
        assert joined.wait(30)
        (paths.folder / "saves").touch()
        ask(paths, "ready", 30)  # somebody comes, for whom the one under way is given up
        asked.result(30)
    assert "it was given up" in paths.agent_log.read_text()
    assert cove.status()["state"] == "suspended"


def test_a_setting_counts_at_once(cove: Any, eventually: Eventually) -> None:
    paths: MachinePaths = cove.make()
    cove.run("config", "set", "suspend_after", "never")
    cove.faults = "idle"
    cove.run("machine", "start")
    assert stays_awake(cove)
    assert "idle for" in cove.run("machine", "status").stdout
    told = cove.run("config", "set", "suspend_after", "1s").stdout
    assert told == 'machine default: suspend_after = "1s", in effect now\n'
    eventually(paths.suspended_run.exists)


def test_a_setting_that_the_agents_own_environment_decides_is_not_said_to_be_in_effect(
    cove: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cove.make()
    monkeypatch.setenv("COVE_SSH_AGENT", "none")
    cove.run("machine", "start")
    monkeypatch.delenv("COVE_SSH_AGENT")
    told = cove.run("config", "set", "ssh_agent", "system")
    assert told.stdout == 'machine default: ssh_agent = "system", in the file\n'
    assert "the machine's agent was started with COVE_SSH_AGENT" in told.stderr
    assert "cove machine restart default" in told.stderr


def test_containers_that_run_keep_it_awake_unless_a_setting_says_otherwise(
    cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    paths = start(cove, monkeypatch, "running")
    assert stays_awake(cove)
    cove.run("config", "set", "suspend_running", "true")
    eventually(paths.suspended_run.exists)
    eventually(lambda: cove.status()["state"] == "suspended")
    told = json.loads(cove.run("config", "set", "cpus", "1", "--json").stdout)
    assert told["restart_needed"] is True
    assert "(it is suspended, and wakes with the settings that it had)" in cove.run("config", "set", "cpus", "1").stdout


def test_published_ports_keep_it_awake_in_any_case(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVE_SUSPEND_RUNNING", "true")
    start(cove, monkeypatch, "running published")
    assert stays_awake(cove)


def test_one_that_cannot_be_saved_goes_on_and_is_not_tried_again_and_again(
    cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    paths = start(cove, monkeypatch, "idle no-save")
    eventually(lambda: "the machine was not suspended: QEMU says that it has failed" in paths.agent_log.read_text())
    assert stays_awake(cove)
    assert paths.agent_log.read_text().count("was not suspended") == 1
    with connect(paths) as client:
        assert repeats(client)


def test_a_use_that_nobody_told_of_begins_the_count_anew() -> None:
    after_s = 0.3
    quiet = [True]
    suspended: list[float] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        idle = Idle(lambda: Wish(after_s), lambda running: quiet[0], lambda since: suspended.append(loop.time()))  # type: ignore[arg-type]
        idle.look()
        quiet[0] = False
        await asyncio.sleep(after_s * 1.5)
        assert (idle.since, suspended) == (None, [])
        quiet[0] = True
        idle.look()
        begun = loop.time()
        await asyncio.sleep(after_s * 1.5)
        assert suspended[0] - begun >= after_s * 0.9

    virtual_time.run(scenario())
