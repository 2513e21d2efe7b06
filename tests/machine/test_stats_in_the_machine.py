"""Stats where all cgroup v2 controllers are: memory, processes, throttling and devices are counted."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]
MB = 1 << 20


@pytest.fixture
def name(machine: Any) -> Iterator[str]:
    made = f"t-{uuid.uuid4().hex[:12]}"
    machine.cove("ps")  # starts what an earlier test has stopped
    yield made
    machine.docker("rm", "-f", made, check=False)


def sample(machine: Any, name: str) -> dict[str, Any]:
    """One frame, as curl gets it: docker's client has no verb for the whole of it."""
    url = f"http://x/containers/{name}/stats?stream=false"
    words = ["curl", "-s", "-m", "30", "--unix-socket", machine.docker_host.removeprefix("unix://"), url]
    told: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    return told


def test_memory_is_what_the_container_holds(machine: Any, name: str) -> None:
    hold = "dd if=/dev/zero of=/dev/shm/f bs=1M count=32; exec sleep 600"
    machine.docker("run", "-d", "--name", name, "-m", "128m", "--shm-size", "64m", "busybox", "sh", "-c", hold)
    machine.docker("exec", name, "sh", "-c", "while [ $(stat -c %s /dev/shm/f) -lt 33554432 ]; do sleep 0.1; done")
    told = sample(machine, name)["memory_stats"]
    assert told["limit"] == 128 * MB
    assert 32 * MB <= told["usage"] < 64 * MB
    assert told["stats"]["shmem"] >= 32 * MB
    assert told["stats"]["inactive_file"] >= 0
    assert "max_usage" not in told


def test_without_a_limit_the_machines_memory_is_it(machine: Any, name: str) -> None:
    machine.docker("run", "-d", "--name", name, "busybox", "sleep", "600")
    total = int(machine.docker("info", "--format", "{{.MemTotal}}").stdout)
    told = sample(machine, name)
    assert told["memory_stats"]["limit"] == total
    assert told["pids_stats"] == {"current": 1, "limit": 2**64 - 1}


def test_processes_are_counted_with_their_limit(machine: Any, name: str) -> None:
    machine.docker(
        "run", "-d", "--name", name, "--pids-limit", "40", "busybox", "sh", "-c", "sleep 600 & sleep 600 & wait"
    )
    machine.docker("exec", name, "sh", "-c", "while [ $(pgrep -c sleep) -lt 2 ]; do sleep 0.1; done")
    assert sample(machine, name)["pids_stats"] == {"current": 3, "limit": 40}


def test_throttling_is_told(machine: Any, name: str) -> None:
    machine.docker("run", "-d", "--name", name, "--cpus", "0.1", "busybox", "sh", "-c", "while :; do :; done")
    told = sample(machine, name)["cpu_stats"]["throttling_data"]
    assert told["periods"] >= told["throttled_periods"] > 0
    assert told["throttled_time"] > 0


def test_devices_are_told_with_what_was_written(machine: Any, name: str) -> None:
    write = "dd if=/dev/zero of=/f bs=1M count=8 conv=fsync; exec sleep 600"
    machine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", write)
    machine.docker("exec", name, "sh", "-c", "while pgrep dd; do sleep 0.1; done")
    told = sample(machine, name)["blkio_stats"]
    written = sum(entry["value"] for entry in told["io_service_bytes_recursive"] if entry["op"] == "write")
    assert written >= 8 * MB
    assert [told[field] for field in told if field != "io_service_bytes_recursive"] == [None] * 7


def test_dockers_client_shows_them(machine: Any, name: str) -> None:
    machine.docker("run", "-d", "--name", name, "-m", "64m", "busybox", "sleep", "600")
    form = "{{.Name}} {{.MemUsage}} {{.PIDs}}"
    shown = machine.docker("stats", "--no-stream", "--format", form, name).stdout.split()
    assert shown[0] == name
    assert shown[1] != "0B"
    assert shown[2:] == ["/", "64MiB", "1"]
    assert machine.cove("stats", "--no-stream", "--format", form, name).stdout.split()[2:] == shown[2:]
