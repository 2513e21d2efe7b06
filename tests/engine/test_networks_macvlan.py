"""Networks of the driver macvlan, on devices that are there already; dummies, VLANs and ipvlan are in test_networks_ipvlan.py."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from isolation_support import making
from life_support import ask

pytestmark = [pytest.mark.root, pytest.mark.native]

Make = Callable[..., Any]


def ip(engine: Any, *words: str) -> str:
    """ip(8) on the engine's machine."""
    return subprocess.run(
        engine.in_network("ip", *words), check=True, capture_output=True, text=True, timeout=20
    ).stdout


def devices(engine: Any) -> set[str]:
    return {one["ifname"] for one in json.loads(ip(engine, "-j", "link"))}


@pytest.fixture
def parent(own_engine: Any) -> Iterator[str]:
    """A device of the machine whose other end is the device ``far0`` of the same machine: a LAN with one more on it."""
    ip(own_engine, "link", "add", "name", "near0", "type", "veth", "peer", "name", "far0")
    for name in ("near0", "far0"):
        ip(own_engine, "link", "set", name, "up")
    # As on any machine: what is called like the containers' own.
    ip(own_engine, "link", "add", "name", "eth0", "type", "veth", "peer", "name", "eth1")
    yield "near0"
    for name in ("near0", "eth0"):
        ip(own_engine, "link", "del", name)


@pytest.fixture
def engine(own_engine: Any) -> Any:
    """Tests add devices to its machine."""
    return own_engine


@pytest.fixture
def create(engine: Any, parent: str) -> Iterator[Callable[..., str]]:
    """Makes networks on the parent, and removes them after the test."""
    made: list[str] = []

    def create(name: str, *, status: int = 201, subnet: str = "", gateway: str = "", **more: Any) -> str:
        given = [{"Subnet": subnet, "Gateway": gateway}] if subnet else []
        options = {"parent": parent, **more.pop("Options", {})}
        body = {"Name": name, "Driver": "macvlan", "Options": options, "IPAM": {"Config": given}, **more}
        got, answer = ask(engine, "POST", "/networks/create", body)
        assert got == status, answer
        if got != 201:
            return str(answer["message"])
        made.append(answer["Id"])
        return str(answer["Id"])

    yield create
    for one in made:
        assert ask(engine, "DELETE", f"/networks/{one}")[0] in (204, 404)


@pytest.fixture
def make(docker_client: Any, create: object) -> Iterator[Make]:
    """As everywhere, but its containers go before the networks."""
    with making(docker_client) as make:
        yield make


def answers(container: Any, target: str) -> bool:
    return bool(container.exec_run(["ping", "-c", "1", "-W", "3", target]).exit_code == 0)


def test_containers_are_on_the_parents_link(engine: Any, make: Make, parent: str, create: Callable[..., str]) -> None:
    ip(engine, "address", "add", "10.77.0.254/24", "dev", "far0")
    create("lan", subnet="10.77.0.0/24", gateway="10.77.0.254")
    before = devices(engine)
    one, two = (make("sleep", "300", network="lan", ports={"80/tcp": None}) for _ in range(2))
    assert answers(one, two.name)
    assert answers(one, "10.77.0.254")  # what is beyond the parent
    assert one.exec_run("ip route").output.startswith(b"default via 10.77.0.254 dev eth0")
    assert devices(engine) == before, "nothing of it is on the machine"
    one.reload()
    settings = one.attrs["NetworkSettings"]
    assert settings["Ports"] == {}, "nothing is published on a macvlan"
    place = settings["Networks"]["lan"]
    assert (place["IPAddress"], place["IPPrefixLen"], place["Gateway"]) == ("10.77.0.1", 24, "10.77.0.254")
    assert place["MacAddress"].encode() in one.exec_run("ip link show eth0").output
    for container in (one, two):
        container.restart(timeout=0)  # the same addresses again, at once
    assert answers(two, one.name)


def test_connect_and_disconnect_while_it_runs(engine: Any, make: Make, create: Callable[..., str]) -> None:
    create("lan", subnet="10.78.0.0/24", gateway="10.78.0.254")
    other, container = make("sleep", "300", network="lan"), make("sleep", "300")
    body = {"Container": container.id, "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.78.0.9"}}}
    assert ask(engine, "POST", "/networks/lan/connect", body)[0] == 200
    assert answers(container, other.name)
    assert b"10.78.0.9/24" in container.exec_run("ip address show eth1").output
    assert b"default via 172." in container.exec_run("ip route").output
    assert ask(engine, "POST", "/networks/bridge/disconnect", {"Container": container.id})[0] == 200
    assert b"default via 10.78.0.254" in container.exec_run("ip route").output
    assert ask(engine, "POST", "/networks/lan/disconnect", {"Container": container.id})[0] == 200
    assert b"eth" not in container.exec_run("ip link").output


@pytest.mark.parametrize("mode", ["private", "vepa", "passthru"])
def test_modes(engine: Any, make: Make, parent: str, create: Callable[..., str], mode: str) -> None:
    create("lan", subnet="10.79.0.0/24", Options={"macvlan_mode": mode})
    one = make("sleep", "300", network="lan")
    if mode == "passthru":
        (told,) = json.loads(ip(engine, "-j", "link", "show", parent))
        own = told["address"].encode()
        assert own in one.exec_run("ip link show eth0").output
        one.restart(timeout=0)
        assert ask(engine, "POST", "/networks/lan/connect", {"Container": make("sleep", "9").id}) == (
            500, {"message": "failed to create the macvlan port: invalid argument"},
        )  # fmt: skip
    else:
        two = make("sleep", "300", network="lan")
        assert not answers(two, "10.79.0.1"), "no neighbour hears another"
    assert b"default" not in one.exec_run("ip route").output, "no gateway was given"


def test_it_outlives_its_engine(engine: Any, make: Make, create: Callable[..., str]) -> None:
    create("lan", subnet="10.80.0.0/24")
    one, gone = make("sleep", "300", network="lan"), make("sleep", "300", network="lan")
    pid = ask(engine, "GET", f"/containers/{gone.id}/json")[1]["State"]["Pid"]
    engine.kill(f"kill -9 {pid}")
    engine.start()
    two = make("sleep", "300", network="lan")
    assert answers(two, "10.80.0.1")
    gone.start()
    assert answers(gone, "10.80.0.1")
    one.restart(timeout=0)
    assert answers(two, "10.80.0.1")


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("loopback interface is not a valid macvlan parent link", {"parent": "lo"}),
        ("requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default", {"macvlan_mode": "x"}),
        ("invalid subinterface vlan name nowhere, example formatting is eth0.10", {"parent": "nowhere"}),
        ("-o parent interface was not found on the host: nowhere", {"parent": "nowhere.5"}),
        ("-o parent interface was not found on the host: near0/../x", {"parent": "near0/../x"}),
        ("unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)", {"parent": "near0.x"}),
        ("vlan id must be between 1-4094, received: 4095", {"parent": "near0.4095"}),
        (
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received near0.1.2",
            {"parent": "near0.1.2"},
        ),
    ],
)
def test_refused_options(engine: Any, create: Callable[..., str], words: str, options: dict[str, str]) -> None:
    before = devices(engine)
    assert create("lan", status=500, Options=options) == words
    assert devices(engine) == before
    assert ask(engine, "GET", "/networks/lan")[0] == 404


def test_who_shares_a_parent(create: Callable[..., str], parent: str) -> None:
    first = create("first")
    create("second")  # as many as there are, of the other modes
    assert create("third", status=500, Options={"macvlan_mode": "passthru"}) == (
        f"cannot use mode passthru, macvlan network {first} is already using parent interface {parent}"
    )


def test_a_parent_that_has_gone(engine: Any, make: Make, create: Callable[..., str]) -> None:
    ip(engine, "link", "add", "name", "brief0", "type", "veth", "peer", "name", "brief1")
    create("lan", Options={"parent": "brief0"})
    one = make("sleep", "300", network="lan", start=False)
    ip(engine, "link", "del", "brief0")
    engine.kill()
    engine.start()  # it is no reason not to
    status, answer = ask(engine, "POST", f"/containers/{one.id}/start")
    assert (status, answer["message"]) == (
        500,
        "the requested parent interface brief0 was not found on the Docker host",
    )
