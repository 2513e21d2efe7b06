"""Limits of a build's commands that only all controllers of cgroup v2 can keep, as in the VM."""

from __future__ import annotations

import io
from typing import Any

import docker.errors
import pytest

_MEMORY = 32 << 20


def build(client: Any, script: str, **options: Any) -> str:
    """What a RUN instruction has printed. Raises docker.errors.BuildError."""
    dockerfile = io.BytesIO(f"FROM busybox\nRUN {script}\n".encode())
    _, log = client.images.build(fileobj=dockerfile, nocache=True, rm=True, **options)
    return "".join(line.get("stream", "") for line in log)


@pytest.mark.usefixtures("limiting")
def test_a_command_has_the_limits_of_the_build(docker_client: Any) -> None:
    limits = {"memory": _MEMORY, "memswap": 2 * _MEMORY, "cpushares": 512, "cpusetcpus": "0"}
    look = "cd /sys/fs/cgroup; for f in memory.max memory.swap.max cpuset.cpus cpu.weight; do echo $f=$(cat $f); done"
    said = build(docker_client, look, container_limits=limits)
    for line in (f"memory.max={_MEMORY}", f"memory.swap.max={_MEMORY}", "cpuset.cpus=0"):
        assert line in said
    assert "cpu.weight=100" not in said


@pytest.mark.usefixtures("limiting")
def test_a_command_that_wants_too_much_memory_fails(docker_client: Any) -> None:
    limits = {"memory": _MEMORY, "memswap": _MEMORY}
    with pytest.raises(docker.errors.BuildError, match=r"137|cannot allocate memory"):
        build(docker_client, "dd if=/dev/zero of=/dev/null bs=200M count=1", container_limits=limits)
    said = build(docker_client, "dd if=/dev/zero of=/dev/null bs=1M count=1 && echo fine", container_limits=limits)
    assert "fine" in said


def test_shared_memory_and_limits_of_files(docker_client: Any) -> None:
    said = build(docker_client, "df -k /dev/shm | tail -1 | awk '{print $2}'", shmsize=8 << 20)
    assert "\n8192\n" in f"\n{said}"
