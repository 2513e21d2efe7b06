"""Limits in the VM, where all cgroup v2 controllers are: set at the start, changed while it runs, and what memory's end means."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import docker
import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]
MB = 1 << 20


@pytest.fixture
def name(machine: Any) -> Iterator[str]:
    made = f"t-{uuid.uuid4().hex[:12]}"
    yield made
    machine.docker("rm", "-f", made, check=False)


def limit(machine: Any, name: str, file: str) -> str:
    """A file of the container's own cgroup, as the container sees it."""
    return str(machine.docker("exec", name, "cat", f"/sys/fs/cgroup/{file}").stdout.strip())


@pytest.mark.parametrize(
    ("flags", "files"),
    [
        (
            ["--memory", "64m", "--memory-swap", "96m", "--memory-reservation", "32m"],
            {"memory.max": str(64 * MB), "memory.swap.max": str(32 * MB), "memory.low": str(32 * MB)},
        ),
        (["--cpus", "0.5"], {"cpu.max": "50000 100000"}),
        (["--cpu-quota", "5000", "--cpu-period", "20000"], {"cpu.max": "5000 20000"}),
        (["--cpu-shares", "512"], {"cpu.weight": "20"}),
        (["--cpuset-cpus", "0"], {"cpuset.cpus": "0"}),
        (["--pids-limit", "40"], {"pids.max": "40"}),
    ],
)
def test_an_update_is_live_and_lasts(machine: Any, name: str, flags: list[str], files: dict[str, str]) -> None:
    machine.docker("run", "-d", "--name", name, "busybox", "sleep", "600")
    assert machine.docker("update", *flags, name).stdout == f"{name}\n"
    assert {file: limit(machine, name, file) for file in files} == files
    machine.docker("restart", "-t", "0", name)
    assert {file: limit(machine, name, file) for file in files} == files


def test_limits_are_taken_away_again(machine: Any, name: str) -> None:
    machine.docker("run", "-d", "--name", name, "-m", "64m", "--pids-limit", "40", "busybox", "sleep", "600")
    machine.docker("update", "--pids-limit", "-1", "--memory-swap", "-1", name)
    assert limit(machine, name, "pids.max") == "max"
    assert limit(machine, name, "memory.swap.max") == "max"
    assert limit(machine, name, "memory.max") == str(64 * MB)


def test_updates_that_do_not_go_together(machine: Any, name: str) -> None:
    machine.docker("run", "-d", "--name", name, "-m", "64m", "--cpus", "0.5", "busybox", "sleep", "600")
    for flags, words in (
        (["--memory", "200m"], "Memory limit should be smaller than already set memoryswap limit"),
        (["--cpu-quota", "5000"], "CPU Quota cannot be updated as NanoCPUs has already been set"),
        (
            ["--memory-reservation", "80m", "--memory", "70m"],
            "Minimum memory limit can not be less than memory reservation",
        ),
    ):
        done = machine.docker("update", *flags, name, check=False)
        assert done.returncode == 1
        assert words in done.stderr
    assert limit(machine, name, "memory.max") == str(64 * MB)


def test_the_end_for_want_of_memory(machine: Any, name: str) -> None:
    client = docker.DockerClient(machine.docker_host, timeout=120)
    try:
        eater = "x=a; while :; do x=$x$x; done"
        container = client.containers.create(
            "busybox", ["sh", "-c", eater], name=name, mem_limit="16m", memswap_limit="16m"
        )
        events = client.events(decode=True, filters={"container": container.id})
        container.start()
        assert container.wait(timeout=100)["StatusCode"] == 137
        seen = []
        for event in events:
            seen.append(event["Action"])
            if event["Action"] == "die":
                break
        events.close()
        assert "oom" in seen
        container.reload()
        assert container.attrs["State"]["OOMKilled"] is True
        container.start()
        container.reload()
        assert container.attrs["State"]["OOMKilled"] is False
    finally:
        client.close()


def test_a_container_that_outlives_the_end_of_one_process(machine: Any, name: str) -> None:
    machine.docker("run", "-d", "--name", name, "-m", "16m", "--memory-swap", "16m", "busybox", "sleep", "600")
    client = docker.DockerClient(machine.docker_host, timeout=120)
    try:
        events = client.events(decode=True, filters={"container": name, "event": "oom"})
        done = machine.docker("exec", name, "sh", "-c", "x=a; while :; do x=$x$x; done", check=False)
        assert done.returncode == 137
        assert next(iter(events))["Action"] == "oom"  # while it runs, not at its end
        events.close()
    finally:
        client.close()
    state = json.loads(machine.docker("inspect", "-f", "{{json .State}}", name).stdout)
    assert (state["Running"], state["OOMKilled"]) == (True, True)
