"""Subnets of networks and addresses of containers."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

import pytest
from coved.errors import EngineError, Forbidden, InvalidParameter
from coved.networks.addresses import AddressPool, Subnet, default_gateway, free_subnet, local_pools, mac_of

NET = ipaddress.IPv4Network("10.0.0.0/29")
GATEWAY = "10.0.0.1"


def pool_of(*taken: str) -> AddressPool:
    pool = AddressPool(NET)
    for address in taken:
        pool.take(ipaddress.ip_address(address))
    return pool


def test_the_lowest_free_address_is_given_and_a_released_one_again() -> None:
    pool = pool_of(GATEWAY)
    given = [str(pool.allocate()) for _ in range(3)]
    assert given == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    pool.release(ipaddress.IPv4Address("10.0.0.3"))
    assert str(pool.allocate()) == "10.0.0.3"
    assert str(pool.allocate()) == "10.0.0.5"


def test_network_broadcast_and_reserved_addresses_are_never_given() -> None:
    pool = pool_of(GATEWAY, "10.0.0.3")
    given = {str(pool.allocate()) for _ in range(4)}
    assert given == {"10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"}
    assert pool.allocate() is None


def test_a_range_bounds_what_is_given_not_what_may_be_asked_for() -> None:
    pool = AddressPool(NET, ipaddress.IPv4Network("10.0.0.4/31"))
    assert [str(pool.allocate()) for _ in range(2)] == ["10.0.0.4", "10.0.0.5"]
    assert pool.allocate() is None
    pool.take(ipaddress.IPv4Address("10.0.0.2"))


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("10.0.0.1", Forbidden, "Address already in use"),
        ("10.0.0.0", Forbidden, "Address already in use"),
        ("10.0.0.7", Forbidden, "Address already in use"),
        ("10.0.1.2", InvalidParameter, "requested address is out of range"),
        ("fd00::1", InvalidParameter, "requested address is out of range"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused(address: str, kind: type[EngineError], said: str) -> None:
    pool = pool_of(GATEWAY)
    with pytest.raises(kind, match=said):
        pool.take(ipaddress.ip_address(address))


def test_an_address_is_taken_once() -> None:
    pool, second = pool_of(GATEWAY), ipaddress.IPv4Address("10.0.0.2")
    pool.take(second)
    with pytest.raises(Forbidden):
        pool.take(second)
    assert str(pool.allocate()) == "10.0.0.3"
    pool.release(second)
    pool.take(second)


@pytest.mark.parametrize(
    ("subnet", "given"),
    [
        ("10.0.0.0/31", ["10.0.0.0", "10.0.0.1", None]),  # RFC 3021
        ("10.0.0.0/32", ["10.0.0.0", None]),
        ("10.0.0.0/30", ["10.0.0.1", "10.0.0.2", None]),
        ("fd00::/126", ["fd00::1", "fd00::2", "fd00::3", None]),  # no broadcast, but the routers' anycast address
        ("fd00::/128", [None]),
        ("fd00::/8", ["fd00::1", "fd00::2"]),
    ],
)
def test_what_the_smallest_and_largest_subnets_give(subnet: str, given: list[str | None]) -> None:
    pool = AddressPool(ipaddress.ip_network(subnet))
    assert [str(one) if (one := pool.allocate()) else None for _ in given] == given


def test_subnets_come_from_dockers_pools_until_there_are_none() -> None:
    taken: list[Subnet] = []
    while True:
        try:
            taken.append(free_subnet(taken))
        except EngineError as error:
            assert "all predefined address pools have been fully subnetted" in str(error)
            break
    assert [str(taken[0]), str(taken[14]), str(taken[15])] == ["172.17.0.0/16", "172.31.0.0/16", "192.168.0.0/20"]
    assert len(taken) == 15 + 16
    assert not any(a.overlaps(b) for number, a in enumerate(taken) for b in taken[number + 1 :])


def test_ipv6_subnets_are_of_the_engines_own_pool_and_never_overlap() -> None:
    pools = local_pools("an engine")
    assert pools == local_pools("an engine") != local_pools("another engine")
    ((block, length),) = pools
    assert (block.subnet_of(ipaddress.IPv6Network("fd00::/8")), block.prefixlen, length) == (True, 48, 64)
    first = ipaddress.ip_network((block.network_address, 64))
    assert free_subnet([ipaddress.IPv4Network("172.17.0.0/16")], pools) == first
    half, third = next(iter(block.subnets(new_prefix=49))), ipaddress.IPv6Network((int(first.network_address), 66))
    assert free_subnet([half], pools).network_address == half.broadcast_address + 1
    assert free_subnet([third], pools).network_address == first.broadcast_address + 1
    few = ((ipaddress.IPv6Network("fd00::/60"), 64),)
    *others, last = few[0][0].subnets(new_prefix=64)
    assert free_subnet(reversed(others), few) == last
    with pytest.raises(EngineError, match="fully subnetted"):
        free_subnet([ipaddress.IPv6Network("fd00::/8")], pools)


def test_macs_are_local_unicast_and_of_their_address() -> None:
    mac = mac_of(ipaddress.IPv4Address("172.17.0.2"))
    assert mac == "02:42:ac:11:00:02"
    first = int(mac[:2], 16)
    assert first & 1 == 0
    assert first & 2 == 2
    mac6 = mac_of(ipaddress.IPv6Address("fd00::2"))
    assert mac6 != mac_of(ipaddress.IPv6Address("fd00::3"))
    assert (len(mac6), mac6[:3]) == (17, "02:")


def test_the_gateway_is_that_of_the_default_route(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    number = int.from_bytes(ipaddress.IPv4Address("172.28.16.1").packed, sys.byteorder)
    head, end = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n",
        "\t0\t0\t0\t00000000\t0\t0\t0\n",
    )
    local = f"eth0\t00101CAC\t00000000\t0001{end}"
    routes.write_text(f"{head}{local}eth0\t00000000\t{number:08X}\t0003{end}")
    assert default_gateway(routes) == "172.28.16.1"
    routes.write_text(head + local)
    assert default_gateway(routes) == ""
