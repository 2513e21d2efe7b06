"""The options of macvlan and ipvlan networks, and what their endpoints are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from coved.errors import EngineError
from coved.networks import create, parented
from coved.networks.definition import Network
from coved.networks.model import Endpoint, EndpointRequest

ENDPOINT = Endpoint("n", "lan", "e", "eth0", "veth1", "10.9.0.2", 24, "10.9.0.1", "02:42:0a:09:00:02")


def made(driver: str, gateway: str = "", *, internal: bool = False, **options: str) -> Network:
    config: dict[str, Any] = {"Subnet": "10.9.0.0/24", "Gateway": gateway}
    body = {"Name": "lan", "Driver": driver, "Internal": internal, "Options": options, "IPAM": {"Config": [config]}}
    return create.definition(body, (), (), ())


def test_modes_and_flags_are_the_kernels_numbers() -> None:
    assert parented.kind(made("macvlan")).mode == 4
    assert parented.kind(made("macvlan", macvlan_mode="passthru")).passthru
    told = parented.kind(made("ipvlan", ipvlan_mode="l3s", ipvlan_flag="vepa"))
    assert (told.mode, told.flags, told.routed) == (2, 2, True)
    assert not parented.kind(made("ipvlan")).routed


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("macvlan", {"macvlan_mode": "l2"}, "requested macvlan mode 'l2' is not valid, 'bridge' mode is the macvlan"),
        ("ipvlan", {"ipvlan_mode": "bridge"}, "requested ipvlan mode 'bridge' is not valid, 'l2' mode is the ipvlan"),
        ("ipvlan", {"ipvlan_flag": "l2"}, "requested ipvlan flag 'l2' is not valid, 'bridge' is the ipvlan"),
        ("ipvlan", {"parent": "lo"}, "loopback interface is not a valid ipvlan parent link"),
        ("macvlan", {"parent": "a" * 16}, "-o parent interface was not found on the host: aaaaaaaaaaaaaaaa"),
        ("macvlan", {"parent": "a\0b"}, "-o parent interface was not found on the host: a\0b"),
        ("macvlan", {"parent": "../x"}, "-o parent interface was not found on the host: ../x"),
    ],
)
def test_refused(driver: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(EngineError) as caught:
        made(driver, **options)
    assert str(caught.value).startswith(words)
    assert caught.value.status == 500


def test_a_parent_of_its_own() -> None:
    for driver, prefix in (("macvlan", "dm-"), ("ipvlan", "di-")):
        network = made(driver)
        assert network.parent == prefix + network.id[:12]
        assert parented.is_closed(network)
        assert not parented.is_closed(made(driver, parent="eth0"))


@pytest.mark.parametrize(
    ("network", "gateway", "reach", "leads_out"),
    [
        (made("macvlan", "10.9.0.254", parent="eth0"), "10.9.0.254", "link", True),
        (made("macvlan", parent="eth0"), "", "link", False),  # no gateway is made up
        (made("macvlan", "10.9.0.254", parent="eth0", internal=True), "", "", False),
        (made("macvlan", "10.9.0.254"), "", "", False),
        (made("ipvlan", "10.9.0.254", parent="eth0", ipvlan_mode="l3"), "", "device", True),
        (made("ipvlan", parent="eth0", ipvlan_mode="l3", internal=True), "", "", False),
    ],
)
def test_where_an_endpoint_leads(network: Network, gateway: str, reach: str, leads_out: bool) -> None:
    told = parented.endpoint(network, replace(ENDPOINT, gateway=network.gateway))
    assert (told.gateway, told.reach, told.leads_out, told.host_interface) == (gateway, reach, leads_out, "")


def test_an_ipvlan_has_its_parents_mac() -> None:
    network = made("ipvlan", parent="eth0")
    assert parented.endpoint(network, ENDPOINT).mac_address == ""
    with pytest.raises(EngineError, match="ipvlan interfaces do not support custom mac address assignment"):
        parented.check_endpoint(network, EndpointRequest("lan", mac_address="02:42:0a:09:00:02"))
    assert parented.endpoint(made("macvlan"), ENDPOINT).mac_address == ENDPOINT.mac_address


def test_who_shares_a_parent() -> None:
    bridge, passthru = made("macvlan", parent="eth0"), made("macvlan", parent="eth0", macvlan_mode="passthru")
    ipvlan = made("ipvlan", parent="eth0")
    parented.check_shared(bridge, [bridge, replace(bridge, id="1"), ipvlan])
    for one, other, words in (
        (passthru, bridge, f"cannot use mode passthru, macvlan network {bridge.id} is already using"),
        (bridge, passthru, f"macvlan network {passthru.id} is already using parent interface eth0 in mode passthru"),
        (ipvlan, replace(ipvlan, id="2" * 64), "network di-222222222222 is already using parent interface eth0"),
    ):
        with pytest.raises(EngineError, match=words):
            parented.check_shared(one, [other])
