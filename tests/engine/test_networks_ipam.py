"""Addresses of networks and of containers on them: what dockerd answers, and what it keeps to itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import network_truth
from network_truth import Daemon

pytestmark = pytest.mark.native


@pytest.fixture(scope="module")
def place(own_engine: Any) -> Iterator[Daemon]:
    yield Daemon(own_engine.url.removeprefix("unix://"))


def test_requests_are_answered_as_by_dockerd(place: Daemon) -> None:
    recorded = json.loads(network_truth.FILE.read_text())
    ours = network_truth.play(place)
    assert {*recorded["creations"]} == {*network_truth.CREATIONS}
    for what in ("creations", "connections"):
        wrong = {
            case: (ours[what][case], theirs) for case, theirs in recorded[what].items() if ours[what][case] != theirs
        }
        assert not wrong, what


def _network(place: Daemon, name: str, **body: Any) -> str:
    status, answer = place.call("POST", "/networks/create", {"Name": name, **body})
    assert status == 201, answer
    return str(answer["Id"])


def _ipam(*config: dict[str, Any]) -> dict[str, Any]:
    return {"IPAM": {"Config": [*config]}}


def _container(place: Daemon, network: str, **more: Any) -> str:
    body = {"Image": "busybox", "Cmd": ["sleep", "900"], "HostConfig": {"NetworkMode": network}, **more}
    status, answer = place.call("POST", "/containers/create", body)
    assert status == 201, answer
    return str(answer["Id"])


def _started(place: Daemon, network: str, **more: Any) -> str:
    made = _container(place, network, **more)
    assert place.call("POST", f"/containers/{made}/start")[0] == 204
    return made


def _endpoints(place: Daemon, container: str) -> dict[str, Any]:
    found: dict[str, Any] = place.call("GET", f"/containers/{container}/json")[1]["NetworkSettings"]["Networks"]
    return found


@pytest.fixture
def tidy(place: Daemon) -> Iterator[None]:
    yield
    for one in place.call("GET", "/containers/json?all=1")[1]:
        place.call("DELETE", f"/containers/{one['Id']}?force=1")
    for one in place.call("GET", '/networks?filters={"type":["custom"]}')[1]:
        place.call("DELETE", f"/networks/{one['Id']}")


@pytest.mark.usefixtures("tidy")
def test_an_exhausted_subnet_gives_again_what_comes_back(place: Daemon) -> None:
    identity = _network(place, "small", **_ipam({"Subnet": "10.244.0.0/29", "IPRange": "10.244.0.4/30"}))
    assert place.call("GET", "/networks/small")[1]["IPAM"]["Config"] == [
        {"Subnet": "10.244.0.0/29", "IPRange": "10.244.0.4/30"}
    ]
    first, *_ = (_started(place, "small") for _ in range(1))
    second = _started(place, "small")
    given = [_endpoints(place, one)["small"]["IPAddress"] for one in (first, second)]
    assert given == ["10.244.0.5", "10.244.0.6"]  # its gateway is the first of the range, as dockerd has it
    assert _endpoints(place, first)["small"]["Gateway"] == "10.244.0.4"
    third = _container(place, "small")
    status, answer = place.call("POST", f"/containers/{third}/start")
    words = f"no available IPv4 addresses on this network's address pools: small ({identity})"
    assert (status, answer["message"].endswith(words)) == (500, True), answer
    outside = {"EndpointsConfig": {"small": {"IPAMConfig": {"IPv4Address": "10.244.0.2"}}}}
    fourth = _started(place, "small", NetworkingConfig=outside)  # not from the range, but of the subnet
    assert _endpoints(place, fourth)["small"]["IPAddress"] == "10.244.0.2"
    place.call("DELETE", f"/containers/{first}?force=1")
    assert place.call("POST", f"/containers/{third}/start")[0] == 204
    assert _endpoints(place, third)["small"]["IPAddress"] == "10.244.0.5"


@pytest.mark.usefixtures("tidy")
def test_settings_are_refused_before_there_is_a_container(place: Daemon) -> None:
    _network(place, "net", **_ipam({"Subnet": "10.244.0.0/24"}))
    body = {
        "Image": "busybox", "HostConfig": {"NetworkMode": "net"},
        "NetworkingConfig": {"EndpointsConfig": {"net": {"IPAMConfig": {"IPv4Address": "10.9.9.9"}}}},
    }  # fmt: skip
    assert place.call("POST", "/containers/create?name=refused", body) == (
        400,
        {
            "message": "invalid config for network net: invalid endpoint settings:\n"
            "no configured subnet or ip-range contain the IP address 10.9.9.9"
        },
    )
    assert place.call("GET", "/containers/refused/json")[0] == 404


@pytest.mark.usefixtures("tidy")
def test_a_container_stays_off_the_network_that_it_was_taken_off(place: Daemon) -> None:
    for name in ("one", "two"):
        _network(place, name)
    container = _started(place, "one")

    def on() -> list[str]:
        return sorted(_endpoints(place, container))

    def say(action: str, network: str) -> tuple[int, str]:
        status, answer = place.call("POST", f"/networks/{network}/{action}", {"Container": container})
        return status, (answer or {}).get("message", "")

    assert say("disconnect", "one") == (200, "")
    assert say("disconnect", "one") == (500, f"container {container} is not connected to network one")
    assert place.call("POST", f"/containers/{container}/restart?t=0")[0] == 204
    assert on() == []
    place.call("POST", f"/containers/{container}/kill")
    place.call("POST", f"/containers/{container}/wait")
    assert say("disconnect", "one") == (500, f"container {container} is not connected to the network one")
    assert say("connect", "two") == say("connect", "one") == (200, "")
    assert say("disconnect", "two") == (200, "")
    assert on() == ["one"]
    assert place.call("POST", f"/containers/{container}/start")[0] == 204
    assert on() == ["one"]
    assert say("disconnect", "one") == (200, "")
    assert place.call("DELETE", "/networks/one")[0] == 204
    assert place.call("POST", f"/containers/{container}/restart?t=0")[0] == 204  # though it was created on it
    assert on() == []
    _network(place, "one")
    assert say("connect", "one") == (200, "")
    assert say("connect", "one") == (403, f"endpoint with name {_name(place, container)} already exists in network one")


def _name(place: Daemon, container: str) -> str:
    return str(place.call("GET", f"/containers/{container}/json")[1]["Name"].removeprefix("/"))


@pytest.mark.usefixtures("tidy")
def test_forced_disconnections_and_what_does_not_go_together(place: Daemon) -> None:
    _network(place, "net")
    _network(place, "cfg", ConfigOnly=True)
    plain, host = _started(place, "bridge"), _started(place, "host")
    alone, shared = _started(place, "none"), _started(place, f"container:{plain}")
    several = (
        "container sharing network namespace with another container or host cannot be connected to any other network"
    )
    for container, action, network, force, expected in (
        (plain, "disconnect", "net", True, (500, f"container {plain} is not connected to network net")),
        (plain, "disconnect", "nothere", False, (404, "network nothere not found")),
        (plain, "disconnect", "nothere", True, (500, f"container {plain} is not connected to the network nothere")),
        ("nobody", "disconnect", "net", True, (404, "endpoint nobody not found")),
        ("nobody", "disconnect", "net", False, (404, "No such container: nobody")),
        (host, "connect", "net", False, (400, several)),
        (shared, "connect", "net", False, (400, several)),
        (host, "disconnect", "host", False, (400, "cannot disconnect container from host network - container was created in "
         "host network mode")),
        (alone, "connect", "net", False, (400, "container cannot be connected to multiple networks with one of the networks in "
         "private (none) mode")),
        (plain, "connect", "cfg", False, (403, "cannot create endpoint on configuration-only network")),
    ):  # fmt: skip
        body = {"Container": container, "Force": force}
        status, answer = place.call("POST", f"/networks/{network}/{action}", body)
        assert (status, answer["message"]) == expected, (container, action, network)
    assert place.call("DELETE", "/networks/bridge")[0] == 403
    assert place.call("POST", "/networks/net/connect", {"Container": plain})[0] == 200
    status, answer = place.call("DELETE", "/networks/net")
    endpoint = _endpoints(place, plain)["net"]["EndpointID"][:12]
    assert (status, answer["message"]) == (
        403,
        f'error while removing network: network net has active endpoints (name:"{_name(place, plain)}" id:"{endpoint}")',
    )


@pytest.mark.usefixtures("tidy")
def test_a_configuration_is_what_networks_are_made_from(place: Daemon) -> None:
    config = [{"Subnet": "10.244.0.0/24", "Gateway": "10.244.0.7"}, {"Subnet": "fd00:44::/64"}]
    labels, options = {"a": "b"}, {"com.docker.network.driver.mtu": "1400"}
    _network(place, "cfg", ConfigOnly=True, EnableIPv6=True, Labels=labels, Options=options, **_ipam(*config))
    shown = place.call("GET", "/networks/cfg")[1]
    assert (shown["Driver"], shown["ConfigOnly"], shown["IPAM"]["Config"]) == ("null", True, config)
    _network(place, "made", ConfigFrom={"Network": "cfg"}, Internal=True)
    made = place.call("GET", "/networks/made")[1]
    assert (made["Driver"], made["ConfigFrom"], made["EnableIPv6"], made["Internal"]) == (
        "bridge", {"Network": "cfg"}, True, True,
    )  # fmt: skip
    assert (made["IPAM"]["Config"], made["Labels"], made["Options"]) == (config, labels, options)
    assert place.call("DELETE", "/networks/cfg") == (
        403,
        {"message": 'error while removing network: configuration network "cfg" is in use'},
    )
    container = _started(place, "made")
    assert _endpoints(place, container)["made"]["GlobalIPv6Address"] == "fd00:44::2"
    place.call("DELETE", f"/containers/{container}?force=1")
    assert place.call("POST", "/networks/prune")[1] == {"NetworksDeleted": ["made"]}
    assert place.call("DELETE", "/networks/cfg")[0] == 204
