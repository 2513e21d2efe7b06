"""Which of a container's networks are its way out: dockerd's rule."""

from __future__ import annotations

from typing import Any

import pytest
from coved.networks.endpoints import gateways
from coved.networks.model import Endpoint


def place(name: str, families: str, priority: int = 0, **more: Any) -> Endpoint:
    ways = {"gateway": "10.0.0.1" if "4" in families else "", "gateway6": "fd00::1" if "6" in families else ""}
    return Endpoint(
        name, name, "e", "eth0", "v", "10.0.0.2", 24, mac_address="", gw_priority=priority, **{**ways, **more}
    )


@pytest.mark.parametrize(
    ("places", "ipv4", "ipv6"),
    [
        ([], "", ""),
        ([place("closed", "")], "", ""),
        ([place("b", "4"), place("a", "4")], "a", ""),
        ([place("a", "4"), place("b", "4", 1)], "b", ""),
        ([place("a", "4", -1), place("b", "4")], "b", ""),
        ([place("a", "4"), place("b", "6")], "a", "b"),
        ([place("a", "4"), place("b", "46")], "b", "b"),
        ([place("a", "4", 9), place("b", "46")], "b", "b"),  # as dockerd 28 has it
        ([place("b", "46"), place("a", "46")], "a", "a"),
        ([place("closed", "", 9), place("b", "4")], "b", ""),
        ([place("routed", "", reach="device")], "routed", ""),  # ipvlan's l3 needs no gateway
        ([place("routed", "", reach="device", address6="fd00::2"), place("a", "4")], "routed", "routed"),
    ],
)
def test_the_way_out(places: list[Endpoint], ipv4: str, ipv6: str) -> None:
    found = gateways(places)
    assert [one.network_name if one else "" for one in found] == [ipv4, ipv6]
    assert gateways(places[::-1]) == found
