"""EndpointSettings are what the API says they are, or refused."""

from __future__ import annotations

from typing import Any

import pytest
from coved.containers import config
from coved.errors import InvalidParameter
from coved.networks import EndpointRequest
from coved.networks.definition import Network
from coved.networks.endpoint_settings import parse
from coved.networks.endpoints import check


@pytest.mark.parametrize("settings", [None, {}, {"IPAMConfig": None, "Aliases": None, "DriverOpts": None}])
def test_what_is_null_or_absent_is_not_asked_for(settings: Any) -> None:
    assert parse("web", settings) == EndpointRequest("web")


def test_all_that_is_asked_for_arrives_also_of_a_create() -> None:
    settings = {
        "IPAMConfig": {"IPv4Address": "10.1.2.3"},
        "MacAddress": "02:00:00:00:00:01",
        "Aliases": ["a", "b"],
        "DriverOpts": {"k": "v"},
        "Gateway": "an inspect's, which is passed over",
    }
    wanted = EndpointRequest("web", "10.1.2.3", "02:00:00:00:00:01", ("a", "b"), {"k": "v"})
    assert parse("web", settings) == wanted
    body = {"Image": "x", "Cmd": ["x"], "NetworkingConfig": {"EndpointsConfig": {"web": settings, "default": None}}}
    assert config.parse(body, {}).endpoints == (wanted, EndpointRequest("bridge"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([], "the endpoint of network web must be an object"),
        ("", "the endpoint of network web must be an object"),
        (
            {"IPAMConfig": {"LinkLocalIPs": "x"}},
            "LinkLocalIPs in the endpoint of network web must be an array of strings",
        ),
        ({"GwPriority": "1"}, "GwPriority in the endpoint of network web must be a number"),
        ({"GwPriority": True}, "GwPriority in the endpoint of network web must be a number"),
        ({"IPAMConfig": 7}, "IPAMConfig in the endpoint of network web must be an object"),
        ({"IPAMConfig": {"IPv4Address": 7}}, "IPv4Address in the endpoint of network web must be a string"),
        ({"MacAddress": ["02:00:00:00:00:01"]}, "MacAddress in the endpoint of network web must be a string"),
        ({"Aliases": "a"}, "Aliases in the endpoint of network web must be an array of strings"),
        ({"Aliases": ["a", 7]}, "Aliases in the endpoint of network web must be an array of strings"),
        ({"DriverOpts": {"k": {}}}, "DriverOpts in the endpoint of network web must be an object of strings"),
    ],
)
def test_another_type_is_refused(settings: Any, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        parse("web", settings)


def _network(**more: Any) -> Network:
    return Network("1" * 64, "net", "bridge", 1, "br-1", "10.1.0.0/24", "10.1.0.1", **more)


@pytest.mark.parametrize("zone", ["%eth0", "%x y\n#"])
def test_an_address_with_a_zone_is_none(zone: str) -> None:
    address, local = f"fd00:1::5{zone}", f"fe80::1{zone}"
    request = EndpointRequest("net", ipv6_address=address, link_local_ips=(local,))
    network = _network(ipv6=True, subnet6="fd00:1::/64", gateway6="fd00:1::1", asked=({"Subnet": "fd00:1::/64"},))
    with pytest.raises(InvalidParameter) as error:
        check(network, request)
    for words in (f"invalid IPv6 address: {address}", f"invalid link-local IP address: {local}"):
        assert words.replace("\n", "\n\t") in str(error.value)


def test_a_subnet_that_was_kept_as_it_was_written_is_asked_all_the_same() -> None:
    """Of IPv6, on a network without it."""
    network = _network(asked=({"Subnet": "fd00::1/64"},))
    check(network, EndpointRequest("net", ipv6_address="fd00::9"))
    with pytest.raises(InvalidParameter, match="no configured subnet or ip-range contain the IP address fd00:1::9"):
        check(network, EndpointRequest("net", ipv6_address="fd00:1::9"))
