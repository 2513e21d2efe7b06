"""macvlan and ipvlan networks with what only the VM's kernel is sure to have: devices of their own, VLANs, and ipvlan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from isolation_support import making
from life_support import ask

pytestmark = pytest.mark.root

Create = Callable[..., str]


@pytest.fixture
def create(engine: Any, name: str) -> Iterator[Create]:
    made: list[str] = []

    def create(driver: str, subnet: str, gateway: str = "", **options: str) -> str:
        body = {
            "Name": f"{name}-{len(made)}", "Driver": driver, "Options": options,
            "IPAM": {"Config": [{"Subnet": subnet, "Gateway": gateway}]},
        }  # fmt: skip
        status, answer = ask(engine, "POST", "/networks/create", body)
        assert status == 201, answer
        made.append(answer["Id"])
        return str(answer["Id"])

    yield create
    for one in made:
        assert ask(engine, "DELETE", f"/networks/{one}")[0] in (204, 404)


@pytest.fixture
def make(docker_client: Any, create: object) -> Iterator[Callable[..., Any]]:
    """As everywhere, but its containers go before the networks."""
    with making(docker_client) as make:
        yield make


def devices(engine: Any) -> set[str]:
    return {*engine.sh("ls /sys/class/net").split()}


def pings(container: Any, target: str) -> bool:
    return bool(container.exec_run(["ping", "-c", "1", "-W", "5", target]).exit_code == 0)


def test_without_a_parent_it_leads_nowhere(engine: Any, make: Any, create: Create) -> None:
    macvlan, ipvlan = create("macvlan", "10.80.0.0/24", "10.80.0.254"), create("ipvlan", "10.81.0.0/24", "10.81.0.254")
    own = {f"dm-{macvlan[:12]}", f"di-{ipvlan[:12]}"}
    assert own <= devices(engine)
    one, two = make("sleep", "300", network=ipvlan), make("sleep", "300", network=ipvlan)
    assert pings(one, two.name)
    assert b"default" not in one.exec_run("ip route").output
    one.remove(force=True)
    two.remove(force=True)
    for network in (macvlan, ipvlan):
        assert ask(engine, "DELETE", f"/networks/{network}")[0] == 204
    assert not own & devices(engine)


def test_a_vlans_device_comes_and_goes_with_its_networks(engine: Any, create: Create) -> None:
    first = create("macvlan", "10.82.0.0/24", parent="eth0.50")
    second = create("macvlan", "10.83.0.0/24", parent="eth0.50")
    assert "50" in engine.sh("cat /proc/net/vlan/eth0.50")
    ask(engine, "DELETE", f"/networks/{first}")
    assert "eth0.50" in devices(engine)
    ask(engine, "DELETE", f"/networks/{second}")
    assert "eth0.50" not in devices(engine)


def test_routed_ipvlans(engine: Any, make: Any, create: Create) -> None:
    """Any address is sent by the device; what is on the same parent is reached, whatever its subnet."""
    network = create("ipvlan", "10.84.0.0/24", parent="eth0.60", ipvlan_mode="l3")
    status, answer = ask(
        engine, "POST", "/networks/create", {"Name": "another", "Driver": "ipvlan", "Options": {"parent": "eth0.60"}}
    )
    assert (status, answer["message"]) == (500, f"network di-{network[:12]} is already using parent interface eth0.60")
    one, two = make("sleep", "300", network=network), make("sleep", "300", network=network)
    assert one.exec_run("ip route").output.startswith(b"default dev eth0")
    assert pings(one, two.name)
    one.reload()
    (place,) = one.attrs["NetworkSettings"]["Networks"].values()
    assert (place["IPAddress"], place["Gateway"], place["MacAddress"]) == ("10.84.0.1", "", "")
    one.restart(timeout=0)
    assert pings(two, "10.84.0.1")


def test_a_container_is_on_the_link_of_the_vm(make: Any, create: Create) -> None:
    network = create("macvlan", "10.0.2.0/24", "10.0.2.2", parent="eth0")
    one = make("sleep", "300", network=network, networking_config=None, mac_address="02:42:0a:00:02:63")
    assert pings(one, "10.0.2.2")
    assert b"02:42:0a:00:02:63" in one.exec_run("ip link show eth0").output
