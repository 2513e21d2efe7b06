"""Whoever is killed while a machine is suspended or wakes: it goes on, or boots and says why, and no state is used twice."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from collections import Counter
from typing import Any

import pytest
from cove.machine.paths import MachinePaths

SUSPENDING = ("stop", "saving", "quit")
WAKING = ("qom-set", "loading", "human-monitor-command", "cont")
"""Commands of QMP, and what comes of them, in the order in which they come."""
ROUNDS = int(os.environ.get("COVE_SLEEP_KILLS", "3"))
SEED = int(os.environ.get("COVE_KILL_SEED", "1"))


def used(paths: MachinePaths) -> Counter[str]:
    """How often a VM has gone on from each state that was saved."""
    file = paths.folder / "states"
    lines = file.read_text().splitlines() if file.exists() else []
    return Counter(line.split()[1] for line in lines if line.startswith("on "))


def check(cove: Any, paths: MachinePaths, before: dict[str, Any]) -> None:
    told = cove.run("machine", "start").stderr
    after = cove.status()
    assert after["state"] == "running"
    assert max(used(paths).values(), default=0) <= 1
    assert not [*paths.folder.glob("suspended*")]
    if after["boot_id"] != before["boot_id"]:  # what ran is gone: somebody has said why, or QEMU was killed
        said = told + paths.agent_log.read_text() + paths.qemu_log.read_text()
        assert "power cut" in said or "SIGKILL" in said or "ended" in said
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(paths.docker_socket))
        client.sendall(b"x")
        assert client.recv(1) == b"x"


@pytest.mark.parametrize("who", ["qemu", "agent"])
@pytest.mark.parametrize("command", [*SUSPENDING, *WAKING])
def test_a_death_at_each_step_costs_no_state_and_uses_none_twice(cove: Any, who: str, command: str) -> None:
    paths = cove.make()
    if command in SUSPENDING:
        cove.faults = f"{who}-dies-at-{command}"
    cove.run("machine", "start")
    before = cove.status()
    cove.run("machine", "suspend", status=None)
    if command in WAKING:
        assert json.loads(paths.suspended_run.read_text())["run"]["boot_id"] == before["boot_id"]
        cove.end()  # whoever wakes it is to hear of the fault
        cove.faults = f"{who}-dies-at-{command}"
        cove.run("machine", "start", status=None)
    assert (paths.folder / "died").exists()
    check(cove, paths, before)
    # A state that was written whole outlives every death of an agent; QEMU's, only until it has gone on.
    if who == "agent" or command == "quit":
        assert cove.status()["boot_id"] == before["boot_id"]


def test_deaths_at_any_moment(cove: Any) -> None:
    """The long form: COVE_SLEEP_KILLS=200 COVE_KILL_SEED=7."""
    chance = random.Random(SEED)
    paths = cove.make()
    cove.run("machine", "start")
    for _ in range(ROUNDS):
        cove.run("machine", "start")
        before = cove.status()
        verb = chance.choice(("suspend", "resume"))
        if verb == "resume":
            cove.run("machine", "suspend")
        with cove.spawn("machine", verb) as under_way:
            time.sleep(chance.random() * 0.8)
            try:
                pid = before["agent_pid"] if chance.random() < 0.5 else int((paths.folder / "qemu.pid").read_text())
                os.kill(pid, signal.SIGKILL)
            except (OSError, ValueError):
                pass  # it was over already
            under_way.communicate(timeout=60)
        check(cove, paths, before)
