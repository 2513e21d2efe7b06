"""Subnets of networks and addresses of containers."""

from __future__ import annotations

import ipaddress

import pytest
from coved.errors import Conflict, EngineError, Forbidden, InvalidParameter
from coved.networks.addresses import AddressPool, free_subnet, mac_of

NET = ipaddress.IPv4Network("10.0.0.0/29")
GATEWAY = ipaddress.IPv4Address("10.0.0.1")


def test_the_lowest_free_address_is_given_and_a_released_one_again() -> None:
    pool = AddressPool(NET, [GATEWAY])
    given = [str(pool.allocate()) for _ in range(3)]
    assert given == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    pool.release("10.0.0.3")
    assert str(pool.allocate()) == "10.0.0.3"
    assert str(pool.allocate()) == "10.0.0.5"


def test_network_broadcast_and_reserved_addresses_are_never_given() -> None:
    pool = AddressPool(NET, [GATEWAY, ipaddress.IPv4Address("10.0.0.3")])
    given = {str(pool.allocate()) for _ in range(4)}
    assert given == {"10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"}
    with pytest.raises(Conflict, match="no available IPv4 addresses"):
        pool.allocate()


def test_a_range_bounds_what_is_given_not_what_may_be_asked_for() -> None:
    pool = AddressPool(NET, [GATEWAY], ipaddress.IPv4Network("10.0.0.4/31"))
    assert [str(pool.allocate()) for _ in range(2)] == ["10.0.0.4", "10.0.0.5"]
    with pytest.raises(Conflict, match=r"10\.0\.0\.4/31"):
        pool.allocate()
    assert str(pool.take("10.0.0.2")) == "10.0.0.2"


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("10.0.0.1", Forbidden, "Address already in use"),
        ("10.0.0.0", Forbidden, "Address already in use"),
        ("10.0.0.7", Forbidden, "Address already in use"),
        ("10.0.1.2", InvalidParameter, "no configured subnet contains IP address 10.0.1.2"),
        ("ten", InvalidParameter, "invalid IPv4 address: ten"),
        ("fd00::1", InvalidParameter, "invalid IPv4 address"),
        ("", InvalidParameter, "invalid IPv4 address"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused(address: str, kind: type[EngineError], said: str) -> None:
    pool = AddressPool(NET, [GATEWAY])
    with pytest.raises(kind, match=said):
        pool.take(address)


def test_an_address_is_taken_once() -> None:
    pool = AddressPool(NET, [GATEWAY])
    pool.take("10.0.0.2")
    with pytest.raises(Forbidden):
        pool.take("10.0.0.2")
    assert str(pool.allocate()) == "10.0.0.3"
    pool.release("10.0.0.2")
    pool.take("10.0.0.2")


def test_subnets_come_from_dockers_pools_until_there_are_none() -> None:
    taken: list[ipaddress.IPv4Network] = []
    while True:
        try:
            taken.append(free_subnet(taken))
        except EngineError as error:
            assert "all predefined address pools have been fully subnetted" in str(error)
            break
    assert [str(taken[0]), str(taken[14]), str(taken[15])] == ["172.17.0.0/16", "172.31.0.0/16", "192.168.0.0/20"]
    assert len(taken) == 15 + 16
    assert not any(a.overlaps(b) for number, a in enumerate(taken) for b in taken[number + 1 :])


def test_macs_are_local_unicast_and_of_their_address() -> None:
    mac = mac_of(ipaddress.IPv4Address("172.17.0.2"))
    assert mac == "02:42:ac:11:00:02"
    first = int(mac[:2], 16)
    assert first & 1 == 0
    assert first & 2 == 2
