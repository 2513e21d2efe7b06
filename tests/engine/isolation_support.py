"""What the tests of containers' isolation share."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import docker

from life_support import ask

Make = Callable[..., Any]
"""The fixture ``make``: options of the SDK's ``containers.create``, the command's words first."""


def output(container: Any) -> str:
    assert container.wait(timeout=30)["StatusCode"] == 0, container.logs().decode()
    return str(container.logs().decode())


def controllers(engine: Any) -> set[str]:
    """What the engine itself says it can limit, by the controllers' names."""
    info = ask(engine, "GET", "/info")[1]
    fields = {"memory": "MemoryLimit", "cpu": "CpuCfsQuota", "cpuset": "CPUSet", "pids": "PidsLimit"}
    return {name for name, field in fields.items() if info[field]}


def numbers(engine: Any, device: str) -> tuple[int, int]:
    """Major and minor number of a device of the engine's machine."""
    major, minor = engine.sh(f"stat -c '%t %T' {device}").split()
    return int(major, 16), int(minor, 16)


def shim_of(engine: Any, container: Any) -> int:
    """The process that made a running container's first one."""
    container.reload()
    return int(engine.sh(f"awk '/^PPid:/ {{print $2}}' /proc/{container.attrs['State']['Pid']}/status"))


def refusal(docker_client: Any, host: dict[str, Any], **config: Any) -> tuple[int, str]:
    response = docker_client.api._post_json(
        docker_client.api._url("/containers/create"),
        {"Image": "busybox", "Cmd": ["true"], **config, "HostConfig": host},
    )
    assert response.status_code != 201, response.json()
    return response.status_code, response.json()["message"]


@contextlib.contextmanager
def making(client: Any) -> Iterator[Callable[..., Any]]:
    """Gives what makes (and starts) containers of busybox by their command's words and the SDK's options."""
    made = []

    def create(*words: str, start: bool = True, **options: Any) -> Any:
        command = list(words) or ["sleep", "300"]
        container = client.containers.create("busybox", command, name=f"t-{uuid.uuid4().hex[:12]}", **options)
        made.append(container)
        if start:
            container.start()
        return container

    try:
        yield create
    finally:
        for container in made:
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True, v=True)
