"""Who watches an agent hears of all that its machine does, and is no use of it."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cove.agent import client
from cove.agent.launch import start_agent
from cove.machine.paths import MachinePaths

BOUND_S = 60.0


class Watcher:
    def __init__(self, paths: MachinePaths) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(BOUND_S)
        self.socket.connect(str(paths.agent_socket))
        self.socket.sendall(json.dumps({"op": client.WATCH}).encode() + b"\n")
        self._lines = self.socket.makefile("rb")

    def told(self) -> Iterator[dict[str, Any]]:
        for line in self._lines:
            yield json.loads(line)

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return next(each for each in self.told() if holds(each))

    def until_state(self, state: str) -> None:
        self.until(lambda told: told.get("status", {}).get("state") == state)


def test_it_hears_of_states_and_progress_until_the_agent_ends(cove: Any) -> None:
    paths: MachinePaths = cove.make()
    start_agent(paths)
    watcher = Watcher(paths)
    seen = []
    for told in watcher.told():
        seen.append(told)
        if told.get("status", {}).get("state") == "running":
            break
    assert any(told.get("event", {}).get("phase") == "ready" for told in seen)
    cove.run("machine", "suspend")
    watcher.until_state("suspended")
    cove.run("machine", "start")
    watcher.until_state("running")
    cove.run("machine", "stop")
    watcher.until_state("stopping")
    assert all("error" not in told for told in watcher.told()), "until the end"


def test_it_hears_of_a_suspension_from_its_beginning(cove: Any) -> None:
    paths: MachinePaths = cove.make()
    cove.run("machine", "start")
    watcher = Watcher(paths)
    watcher.until_state("running")
    cove.run("machine", "suspend")
    watcher.until_state("suspending")
    watcher.until_state("suspended")


def test_it_hears_of_a_suspension_that_has_failed(cove: Any) -> None:
    cove.faults = "no-save"
    paths: MachinePaths = cove.make()
    cove.run("machine", "start")
    watcher = Watcher(paths)
    watcher.until_state("running")
    cove.run("machine", "suspend", status=1)
    watcher.until_state("suspending")
    watcher.until_state("running")


def test_it_hears_of_a_disk_that_is_full_and_of_the_end_of_that(cove: Any) -> None:
    paths: MachinePaths = cove.make()
    cove.run("machine", "start")
    watcher = Watcher(paths)
    watcher.until_state("running")
    for _ in range(2):
        (paths.folder / "full").touch()
        os.kill(cove.status()["pid"], signal.SIGUSR2)
        watcher.until_state("paused")
        (paths.folder / "full").unlink()
        cove.run("machine", "start")
        watcher.until_state("running")


def test_the_agents_end_waits_for_no_watcher(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cove.wait_less(monkeypatch, BOUND_S * 2, "cove.agent.service.LAST_WORDS_S")  # as long as it would
    paths: MachinePaths = cove.make()
    cove.run("machine", "start")
    watchers = [Watcher(paths) for _ in range(3)]
    for watcher in watchers:
        watcher.until_state("running")
    cove.run("machine", "stop")  # within the bound of the test's command


def test_a_machine_that_is_watched_sleeps_when_nobody_uses_it(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVE_SUSPEND_AFTER", "1s")
    cove.faults = "idle"
    paths: MachinePaths = cove.make()
    cove.run("machine", "start")
    Watcher(paths).until_state("suspended")


def test_a_start_that_is_watched_is_given_up_with_whoever_waits_for_it(cove: Any) -> None:
    cove.faults = "silent"
    paths: MachinePaths = cove.make()
    waiting = cove.spawn("machine", "start")
    while not client.answers(paths):
        assert waiting.poll() is None
    watcher = Watcher(paths)
    watcher.until(lambda told: "event" in told)
    waiting.send_signal(signal.SIGINT)
    assert "was given up" in waiting.communicate(timeout=BOUND_S)[1]
