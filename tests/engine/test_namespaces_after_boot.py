"""Containers that share another's namespaces come back with it when the engine starts them all, as after a boot."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from engines import Engine

pytestmark = pytest.mark.root


@pytest.fixture
def client(own_engine: Engine) -> Iterator[Any]:
    made = docker.DockerClient(own_engine.url, timeout=60)
    yield made
    made.close()


def test_those_whose_namespaces_are_shared_start_first(own_engine: Engine, client: Any) -> None:
    options = {"restart_policy": {"Name": "always"}, "stop_signal": "SIGKILL", "detach": True}
    names, holders = [], []
    for number in range(6):
        holders.append(f"h{number}")
        holder = client.containers.run("busybox", "sleep 300", name=f"h{number}", ipc_mode="shareable", **options)
        shared = f"container:{holder.id}"
        for kind in ({"network_mode": shared}, {"ipc_mode": shared}, {"pid_mode": shared}):
            name = f"a{number}-{next(iter(kind))}"
            client.containers.run("busybox", "sleep 300", name=name, **options, **kind)
            names.append(name)
    assert own_engine.process is not None
    own_engine.process.send_signal(signal.SIGTERM)
    own_engine.process.wait(60)
    own_engine.start()
    deadline = time.monotonic() + 120
    while "restarting" in (states := {each.name: each.status for each in client.containers.list(all=True)}).values():
        assert time.monotonic() < deadline, states
        time.sleep(0.05)
    assert states == dict.fromkeys([*holders, *names], "running")
