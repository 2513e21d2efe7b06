"""``host``, ``none`` and ``container:``, and several networks from the start."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

from isolation_support import making
from life_support import ask

pytestmark = [pytest.mark.root, pytest.mark.native]


@pytest.fixture
def network(docker_client: Any, name: str) -> Iterator[str]:
    made = docker_client.networks.create(name)
    yield name
    made.remove()


@pytest.fixture
def make(docker_client: Any, network: str) -> Iterator[Any]:
    """As everywhere, but its containers go before the network."""
    with making(docker_client) as make:
        yield make


@pytest.mark.parametrize("mode", ["host", "none"])
def test_there_are_endpoints_without_addresses(engine: Any, make: Any, mode: str) -> None:
    container = make("sleep", "300", network_mode=mode)
    network = ask(engine, "GET", f"/networks/{mode}")[1]
    told = network["Containers"][container.id]
    own = ask(engine, "GET", f"/containers/{container.id}/json")[1]["NetworkSettings"]["Networks"][mode]
    assert told["Name"] == container.name
    assert told["EndpointID"] == own["EndpointID"] != ""
    assert own["NetworkID"] == network["Id"]
    container.stop(timeout=0)
    assert container.id not in ask(engine, "GET", f"/networks/{mode}")[1]["Containers"]


def test_several_networks_at_once(engine: Any, make: Any, network: str) -> None:
    body = {
        "Image": "busybox", "Cmd": ["sleep", "300"], "HostConfig": {"NetworkMode": network},
        "NetworkingConfig": {"EndpointsConfig": {network: {"Aliases": ["here"]}, "bridge": {}}},
    }  # fmt: skip
    status, answer = ask(engine, "POST", "/containers/create", body)
    assert status == 201, answer
    try:
        assert ask(engine, "POST", f"/containers/{answer['Id']}/start")[0] == 204
        found = ask(engine, "GET", f"/containers/{answer['Id']}/json")[1]["NetworkSettings"]["Networks"]
        assert {*found} == {network, "bridge"}
        assert found[network]["Aliases"] == ["here"]
    finally:
        ask(engine, "DELETE", f"/containers/{answer['Id']}?force=1")


def test_the_container_whose_network_is_shared_starts_again(engine: Any, make: Any, network: str) -> None:
    owner = make("sleep", "300", network=network)
    joined = make("sleep", "300", network_mode=f"container:{owner.name}")

    def address(container: Any) -> Any:
        return container.exec_run("ip -o -4 addr show eth0").output

    assert address(joined) == address(owner) != b""
    owner.restart(timeout=0)
    joined.restart(timeout=0)
    assert address(joined) == address(owner) != b""
    joined.stop(timeout=0)
    owner.stop(timeout=0)
    status, answer = ask(engine, "POST", f"/containers/{joined.id}/start")
    assert (status, answer["message"]) == (409, f"cannot join network of a non running container: {owner.id}")


def test_a_classic_build_on_a_containers_network(docker_client: Any, make: Any, network: str) -> None:
    """By its name, which dockerd takes as well."""
    owner = make("sh", "-c", "echo served > /index.html; exec httpd -f -p 127.0.0.1:80 -h /", network=network)
    text = b"FROM busybox\nRUN wget -q -O /said http://127.0.0.1/\nCMD cat /said\n"
    image, _ = docker_client.images.build(fileobj=io.BytesIO(text), network_mode=f"container:{owner.name}", rm=True)
    assert docker_client.containers.run(image.id, remove=True) == b"served\n"
    docker_client.images.remove(image.id, force=True)
