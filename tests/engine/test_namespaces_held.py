"""Network namespaces that somebody holds beyond their containers' end: nothing of them is left on the bridge."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from life_support import eventually

pytestmark = pytest.mark.native


def _pairs(engine: Any, network: Any) -> set[str]:
    """Devices of the machine that are ports of a network's bridge."""
    words = engine.in_network("ip", "-o", "link", "show", "master", f"br-{network.id[:12]}")
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split(":")[1].strip().partition("@")[0] for line in lines}


@pytest.mark.parametrize("holder", ["a descriptor", "a copy of all mounts"])
def test_no_pair_stays_and_the_address_is_good_for_the_next(
    native_engine: Any, docker_client: Any, make: Any, name: str, holder: str
) -> None:
    network = docker_client.networks.create(name, driver="bridge")
    try:
        first = make("sleep", "300", network=name)
        (pair,) = _pairs(native_engine, network)
        mounts = {"/": {"bind": "/h", "mode": "ro"}} if holder == "a copy of all mounts" else {}
        asking = make("sleep", "300", network=name, volumes=mounts)
        first.reload()
        address = first.attrs["NetworkSettings"]["Networks"][name]["IPAddress"]
        key = first.attrs["NetworkSettings"]["SandboxKey"]
        with contextlib.ExitStack() as held:
            if mounts:
                assert asking.exec_run(["test", "-e", f"/h{key}"])[0] == 0
            else:
                held.enter_context(Path(key).open("rb"))
            first.remove(force=True)
            eventually(lambda: pair not in _pairs(native_engine, network), 10)
            second = make("sleep", "300", network=name)
            second.reload()
            assert second.attrs["NetworkSettings"]["Networks"][name]["IPAddress"] == address
            status, said = asking.exec_run(["ping", "-c", "2", "-W", "2", address])
            assert (status, b" 0% packet loss" in said) == (0, True), said
    finally:
        for container in docker_client.containers.list(all=True, filters={"network": name}):
            container.remove(force=True)
        network.remove()
