"""The VM's memory runs out: a container pays for that, what holds containers does not, and all goes on without a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import docker
import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

PARTS = "cove-engine cove-supervisor cove-spawner"
EATER = "dd if=/dev/zero of=/dev/null count=1 bs=$(awk '/MemTotal/ {print int($2 * 0.96)}' /proc/meminfo)k"
"""Fills a buffer that nearly all of the machine's memory would go into."""

EATEN_S = 500
"""An emulated kernel takes half a minute to find whom to kill."""


@pytest.fixture
def client(machine: Any) -> Iterator[Any]:
    made = docker.DockerClient(machine.docker_host, timeout=300)
    yield made
    for container in made.containers.list(all=True, filters={"name": "memory-"}):
        container.remove(force=True)
    made.close()


def parts(machine: Any) -> dict[str, str]:
    """Pids and OOM scores of the engine, what is beside it, and the shims."""
    script = (
        "cd /proc; for p in [0-9]*; do read name < $p/comm && case $name in cove-engine|cove-supervisor|cove-spawner|shim:*)"
        " echo $p $name $(cat $p/oom_score_adj);; esac; done 2>/dev/null"
    )
    lines = [line.split() for line in machine.cove("machine", "ssh", script).stdout.splitlines()]
    assert {score for _, _, score in lines} == {"-999"}
    return {pid: name for pid, name, _ in lines}


def test_one_container_without_a_limit_eats_all(machine: Any, client: Any) -> None:
    good = client.containers.run("busybox", ["sleep", "1000"], name="memory-good", detach=True)
    before = parts(machine)
    assert {*PARTS.split(), f"shim:{good.id[:10]}"} <= {*before.values()}
    boot = machine.cove("machine", "ssh", "cat /proc/sys/kernel/random/boot_id").stdout
    eater = client.containers.run("busybox", ["sh", "-c", f"{EATER}; echo $?"], name="memory-eater", detach=True)
    assert eater.wait()["StatusCode"] in (0, 137)
    eater.reload()
    assert eater.attrs["State"]["OOMKilled"] is True
    after = parts(machine)
    assert before.items() <= after.items()
    assert machine.cove("machine", "ssh", "cat /proc/sys/kernel/random/boot_id").stdout == boot
    good.reload()
    assert good.status == "running"
    assert good.attrs["State"]["OOMKilled"] is False
    assert good.exec_run(["echo", "there"]).output == b"there\n"
    assert client.containers.run("busybox", ["echo", "hi"], name="memory-next", remove=True) == b"hi\n"


def test_many_at_once_and_clients_meanwhile(machine: Any, client: Any) -> None:
    before = parts(machine)
    command = ["sh", "-c", f"exec {EATER}"]
    eaters = [client.containers.run("busybox", command, name=f"memory-{n}", detach=True) for n in range(3)]
    deadline = time.monotonic() + EATEN_S
    while any(one.status != "exited" for one in eaters):
        assert time.monotonic() < deadline
        for one in eaters:
            one.reload()
    assert [one.attrs["State"]["ExitCode"] for one in eaters] == [137] * 3
    assert any(one.attrs["State"]["OOMKilled"] for one in eaters)
    assert {pid: name for pid, name in before.items() if not name.startswith("shim:")}.items() <= parts(machine).items()
    assert client.containers.run("busybox", ["echo", "hi"], name="memory-next", remove=True) == b"hi\n"
