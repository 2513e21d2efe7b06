"""POST /networks/create: what becomes of a request, and in which words it is refused."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from coved.errors import EngineError, Forbidden, InvalidParameter, NotFound
from coved.networks import create
from coved.networks.addresses import local_pools
from coved.networks.definition import Definitions, Network
from coved.networks.model import EndpointRequest
from coved.store.database import Database

TAKEN = [
    Network(
        f"{n}" * 64, f"net{n}", "bridge", n, f"br-{n}", f"172.1{n}.0.0/16", f"172.1{n}.0.1", subnet6=f"fd00:{n}::/64"
    )
    for n in (7, 8)
]
ZONED = "fd00:1::1%x y\n#"
POOLS6 = local_pools("test")


def made(
    config: dict[str, Any], *, taken: Any = TAKEN, foreign: Any = (), devices: Any = ("eth0", "docker0")
) -> Network:
    return create.definition({"Name": "web", **config}, taken, foreign, devices, POOLS6)


def ipam(**config: Any) -> dict[str, Any]:
    return {"IPAM": {"Config": [config]}}


def test_a_bare_request_gets_the_first_free_subnet() -> None:
    network = made({})
    assert (network.driver, network.subnet, network.gateway) == ("bridge", "172.19.0.0/16", "172.19.0.1")
    assert network.bridge == f"br-{network.id[:12]}"
    assert len(network.id) == 64
    assert not network.asked
    assert network.mtu == 1500


def test_what_was_asked_for_is_kept() -> None:
    options = {"com.docker.network.bridge.name": "mine0", "com.docker.network.driver.mtu": "1400", "x": "y"}
    network = made(
        {
            **ipam(
                Subnet="10.9.0.0/24", Gateway="10.9.0.254", IPRange="10.9.0.128/25", AuxiliaryAddresses={"printer": "10.9.0.7"}
            ),
            "Options": options, "Labels": {"a": "b"}, "Internal": True, "Attachable": True,
        }
    )  # fmt: skip
    assert (network.subnet, network.gateway, network.ip_range) == ("10.9.0.0/24", "10.9.0.254", "10.9.0.128/25")
    assert network.auxiliary == {"printer": "10.9.0.7"}
    assert (network.bridge, network.mtu, network.options) == ("mine0", 1400, options)
    assert (network.labels, network.internal, network.attachable) == ({"a": "b"}, True, True)
    assert network.has_asked_for(4)
    assert not network.has_asked_for(6)


def test_null_and_empty_are_as_good_as_absent() -> None:
    network = made({"Driver": "", "IPAM": None, "Options": None, "Labels": None, "EnableIPv6": None})
    assert network.subnet == "172.19.0.0/16"
    assert made({"IPAM": {"Driver": "default", "Config": None, "Options": {"k": "v"}}}).ipam_options == {"k": "v"}


def test_the_machines_own_subnets_are_kept_clear_of_but_may_be_asked_for() -> None:
    foreign = [ipaddress.IPv4Network("172.16.0.0/12")]
    assert made({}, foreign=foreign).subnet == "192.168.0.0/20"
    assert made(ipam(Subnet="172.20.0.0/16"), foreign=foreign).subnet == "172.20.0.0/16"


@pytest.mark.parametrize(
    ("config", "kind", "said"),
    [
        ({"Name": ""}, InvalidParameter, "invalid name"),
        ({"Name": "a\nb"}, InvalidParameter, "invalid name"),
        ({"Name": "a" * 256}, InvalidParameter, "invalid name"),
        ({"Name": 5}, InvalidParameter, "invalid Name"),
        ({"Name": "host"}, Forbidden, "operation is not permitted on predefined host network"),
        ({"Driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"Driver": "ovrlay"}, NotFound, 'plugin "ovrlay" not found'),
        ({"EnableIPv6": "yes"}, InvalidParameter, "invalid EnableIPv6"),
        ({"EnableIPv4": False}, InvalidParameter, "IPv4 or IPv6 must be enabled"),
        ({"Options": {"com.docker.network.bridge.name": "eth0"}}, InvalidParameter, "in use by another network device"),
        ({"Options": {"com.docker.network.bridge.name": "a" * 16}}, InvalidParameter, "invalid bridge name"),
        ({"Options": {"com.docker.network.bridge.name": 'x" }; flush'}}, InvalidParameter, "invalid bridge name"),
        ({"Options": {"com.docker.network.bridge.name": "a/b"}}, InvalidParameter, "invalid bridge name"),
        ({"Options": {"com.docker.network.driver.mtu": "many"}}, InvalidParameter, "mtu"),
        ({"Options": {"com.docker.network.driver.mtu": "67"}}, InvalidParameter, "mtu"),
        ({"Options": {"com.docker.network.driver.mtu": "-1"}}, InvalidParameter, "invalid MTU number: -1"),
        ({"Options": ["x"]}, InvalidParameter, "invalid Options"),
        ({"Labels": {"a": 1}}, InvalidParameter, "invalid Labels"),
        ({"IPAM": []}, None, ""),
        ({"IPAM": ["x"]}, InvalidParameter, "invalid IPAM"),
        ({"IPAM": {"Driver": "dhcp"}}, NotFound, "dhcp"),
        ({"IPAM": {"Config": "x"}}, InvalidParameter, "invalid IPAM config"),
        ({"IPAM": {"Config": [1]}}, InvalidParameter, "invalid IPAM config"),
        (
            {"IPAM": {"Config": [{"Subnet": "10.0.0.0/24"}, {"Subnet": "10.1.0.0/24"}]}},
            Forbidden,
            "bridge driver doesn't support multiple subnets",
        ),
        (ipam(Gateway="10.0.0.1"), InvalidParameter, "invalid subnet : invalid CIDR block notation"),
        (ipam(Subnet="10.0.0.1/24"), InvalidParameter, "it should be 10.0.0.0/24"),
        (ipam(Subnet="10.0.0.0"), InvalidParameter, "invalid CIDR"),
        (ipam(Subnet="10.0.0.0/255.255.255.0"), InvalidParameter, "invalid CIDR"),
        (ipam(Subnet="fe80::%eth0/64"), InvalidParameter, "invalid CIDR"),
        (ipam(Subnet="10.0.0.0/33"), InvalidParameter, "invalid CIDR"),
        (ipam(Subnet="elephant"), InvalidParameter, "invalid CIDR"),
        (ipam(Subnet=5), InvalidParameter, "invalid Subnet"),
        (ipam(Subnet="172.17.5.0/24"), Forbidden, "Pool overlaps with other one on this address space"),
        (ipam(Subnet="172.0.0.0/8"), Forbidden, "Pool overlaps with other one on this address space"),
        (
            ipam(Subnet="10.0.0.0/24", Gateway="10.0.1.1"),
            InvalidParameter,
            "invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain",
        ),
        (ipam(Subnet="10.0.0.0/24", Gateway="x"), InvalidParameter, "invalid gateway x: invalid address"),
        (
            ipam(Subnet="10.0.0.0/24", IPRange="10.0.1.0/25"),
            InvalidParameter,
            "parent subnet 10.0.0.0/24 doesn't contain ip-range",
        ),
        (ipam(Subnet="10.0.0.0/24", IPRange="x"), InvalidParameter, "invalid ip-range"),
        *(
            ({"EnableIPv6": True, **ipam(Subnet="fd00:1::/64", **{key: value})}, InvalidParameter, "invalid address")
            for key, value in (("Gateway", ZONED), ("AuxiliaryAddresses", {"way": ZONED}))
        ),
        ({"Options": {"com.docker.network.bridge.host_binding_ipv4": ZONED}}, InvalidParameter, "nil ip"),
        (
            {"EnableIPv6": True, **ipam(Subnet="::/64")},
            InvalidParameter,
            "'::1/64' clashes with the loopback address '::1'",
        ),
        (
            ipam(Subnet="10.0.0.0/24", AuxiliaryAddresses={"a": "10.0.1.9"}),
            InvalidParameter,
            "invalid auxiliary address a: parent subnet 10.0.0.0/24 doesn't contain this address",
        ),
        (ipam(Subnet="10.0.0.0/24", AuxiliaryAddresses={"a": 9}), InvalidParameter, "invalid AuxiliaryAddresses"),
    ],
)
def test_what_cannot_be_is_refused(config: dict[str, Any], kind: type[EngineError] | None, said: str) -> None:
    if kind is None:
        made(config)
        return
    with pytest.raises(kind, match=said.replace("(", r"\(")):
        made(config)


def test_a_network_may_choose_not_to_masquerade() -> None:
    assert made({}).rule.masquerade
    assert not made({"Options": {"com.docker.network.bridge.enable_ip_masquerade": "false"}}).rule.masquerade


def test_definitions_and_connections_outlive_the_engine(tmp_path: Any) -> None:
    database = Database(tmp_path / "db")
    definitions = Definitions(database)
    first = made(ipam(Subnet="10.9.0.0/24"))
    second = made({"Name": "other"})
    for network in (second, first):
        definitions.add(network)
    endpoint = EndpointRequest("ignored", ipv4_address="10.9.0.9", aliases=("db", "cache"))
    definitions.connect("c1", first.id, endpoint)
    definitions.connect("c1", second.id, EndpointRequest("y"))
    again = Definitions(Database(tmp_path / "db"))
    assert again.load() == sorted([first, second], key=lambda network: network.created_ns)
    assert again.connections("c1") == [(first.id, endpoint), (second.id, EndpointRequest("y"))]
    again.disconnect("c1", second.id)
    assert [network for network, _ in again.connections("c1")] == [first.id]
    again.remove(first.id)
    assert again.connections("c1") == []
    again.connect("c2", second.id, EndpointRequest("y"))
    again.forget("c2")
    assert again.connections("c2") == []
    again.depart("c2", second)
    again.remove(second.id)
    assert {*again.departures()} == {("c2", second.id), ("c2", second.name)}
    again.forget("c2")
    assert again.departures() == []


def test_what_an_engine_without_ipv6_wrote_is_understood(tmp_path: Any) -> None:
    database = Database(tmp_path / "db")
    definitions = Definitions(database)
    old = {
        "id": "a" * 64, "name": "old", "driver": "bridge", "created_ns": 5, "bridge": "br-a", "subnet": "10.9.0.0/24",
        "gateway": "10.9.0.1", "ip_range": "", "subnet_given": True, "auxiliary": {"a": "10.9.0.9"}, "internal": False,
        "attachable": False, "options": {}, "ipam_options": {}, "labels": {},
    }  # fmt: skip
    database.execute("INSERT INTO networks VALUES (?, ?, ?)", (old["id"], "old", json.dumps(old)))
    connection = {"network": old["id"], "ipv4_address": "", "mac_address": "", "aliases": ["x"], "driver_opts": {}}
    database.execute("INSERT INTO network_connections VALUES (?, ?, ?)", ("c1", old["id"], json.dumps(connection)))
    (network,) = definitions.load()
    assert (network.ipv4, network.ipv6, network.subnet, network.block6) == (True, False, "10.9.0.0/24", None)
    assert network.asked == ({"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1", "AuxiliaryAddresses": {"a": "10.9.0.9"}},)
    assert definitions.connections("c1") == [(network.id, EndpointRequest(network.id, aliases=("x",)))]


def test_two_networks_of_one_name_are_not_kept(tmp_path: Any) -> None:
    definitions = Definitions(Database(tmp_path / "db"))
    definitions.add(made({}))
    with pytest.raises(Exception, match="UNIQUE"):
        definitions.add(made({}))


@pytest.mark.parametrize(
    ("subnet", "refused"), [("10.0.0.0/16", True), ("10.0.2.128/25", True), ("10.0.3.0/24", False)]
)
def test_the_machines_own_network_is_no_containers(subnet: str, *, refused: bool) -> None:
    network = made(ipam(Subnet=subnet))
    own = ipaddress.ip_network("10.0.2.0/24")
    if refused:
        with pytest.raises(Forbidden, match=r"Pool overlaps .* overlaps 10\.0\.2\.0/24"):
            create.spare(network, own)
    else:
        create.spare(network, own)
