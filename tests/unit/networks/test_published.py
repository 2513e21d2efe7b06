"""The published ports of a sandbox: which there are, where they lead, and who is told when one is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from coved.errors import EngineError
from coved.networks.definition import HOST_BINDING, Network
from coved.networks.firewall import PortRule
from coved.networks.model import Endpoint, PortRequest, PublishedPort, SandboxRequest
from coved.networks.opened import Opened
from coved.networks.published import PublishedPorts
from coved.networks.publishers import PublishError
from coved.networks.records import Record

ID = "c" * 64
NETWORK = Network(
    "1" * 64, "net", "bridge", 1, "br1", "10.201.0.0/24", "10.201.0.1", options={HOST_BINDING: "127.0.0.9"}
)
PLACE = Endpoint(
    NETWORK.id, NETWORK.name, "e" * 64, "eth0", "veth1", "10.201.0.2", 24, NETWORK.gateway, "02:00:00:00:00:01"
)
SIX = replace(PLACE, address="", gateway="", address6="fd00::2", gateway6="fd00::1")
INTERNAL = replace(PLACE, gateway="")
MACVLAN = replace(PLACE, host_interface="")
WEB = Record(ID, "web", "bridge", (PLACE,))
PORT = PublishedPort("tcp", 80, "127.0.0.9", 8080)
ASKED = SandboxRequest("web", ports=(PortRequest("tcp", 80, "", 8080), PortRequest("udp", 53, "127.0.0.5")))


class Host:
    """Has the ports."""

    def __init__(self) -> None:
        self.owner: Any = None
        self.on_lost: Any = None
        self.lost: set[PublishedPort] = set()
        self.bound: list[PublishedPort] = []
        self.refusal = ""

    async def publish(self, requests: Sequence[PortRequest], *, keep: bool = False) -> tuple[PublishedPort, ...]:
        if self.refusal:
            raise PublishError(self.refusal)
        made = tuple(PublishedPort(one.proto, one.container_port, one.host_ip, one.host_port) for one in requests)
        self.bound += made
        return made

    async def unpublish(self, ports: Sequence[PublishedPort]) -> None:
        for one in ports:
            self.bound.remove(one)

    def rules_for(self, port: PublishedPort, container_address: str) -> list[PortRule]:
        return [PortRule(port.proto, "", port.host_port, container_address, port.container_port)]


class Place:
    """Open sandboxes and a host for their ports."""

    def __init__(self, *records: Record) -> None:
        self.host = Host()
        self.told: list[tuple[Any, ...]] = []
        self.changed: list[str] = []
        self.rules: list[PortRule] = []
        opened = Opened()
        for record in records:
            opened[record.container_id] = record
        catalog: Any = {NETWORK.id: NETWORK}
        events: Any = SimpleNamespace(publish=lambda *words: self.told.append(words))
        datapath = SimpleNamespace(add_ports=self.rules.extend, remove_ports=self._remove)
        kernel: Any = SimpleNamespace(run=self._run, datapath=datapath)
        host: Any = self.host
        self.ports = PublishedPorts(opened, catalog, kernel, host, events, self.changed.append)

    async def _run(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    def _remove(self, rules: list[PortRule]) -> None:
        for rule in rules:
            self.rules.remove(rule)


def test_the_network_says_where_ports_are_bound_that_name_no_address() -> None:
    place = Place()
    published = asyncio.run(place.ports.publish(WEB, ASKED))
    assert [one.host_ip for one in published] == ["127.0.0.9", "127.0.0.5"]
    assert place.host.bound == [*published]


@pytest.mark.parametrize("endpoints", [(), (INTERNAL,), (MACVLAN,)])
def test_without_a_bridge_that_leads_out_nothing_is_published(endpoints: tuple[Endpoint, ...]) -> None:
    place = Place()
    assert asyncio.run(place.ports.publish(replace(WEB, endpoints=endpoints), ASKED)) == ()
    assert place.host.bound == []


def test_a_port_that_cannot_be_bound_is_told_in_docker_s_words() -> None:
    place = Place()
    place.host.refusal = "Bind for 127.0.0.1:8080 failed: port is already allocated"
    said = (
        f"driver failed programming external connectivity on endpoint web ({PLACE.endpoint_id}): {place.host.refusal}"
    )
    with pytest.raises(EngineError) as raised:
        asyncio.run(place.ports.publish(WEB, ASKED))
    assert str(raised.value) == said


def test_rules_lead_where_there_is_ipv4() -> None:
    ports = Place().ports
    assert [one.container_address for one in ports.rules(replace(WEB, ports=(PORT,)))] == [PLACE.address]
    assert ports.rules(replace(WEB, ports=(PORT,), endpoints=(SIX,))) == []


def test_ports_end_with_the_way_out_and_are_there_again_with_the_next() -> None:
    async def scenario() -> None:
        place = Place()
        inside = replace(WEB, endpoints=(INTERNAL,))
        first = await place.ports.place(inside, WEB, ASKED)
        assert [*first.ports] == place.host.bound
        assert [one.container_address for one in place.rules] == [PLACE.address] * 2
        placed = await place.ports.place(first, inside, ASKED)
        assert (placed.ports, place.rules) == ((), [])
        assert place.host.bound == [*first.ports]  # there is a way back
        await place.ports.put_back(placed, first)
        assert len(place.rules) == 2
        await place.ports.end(first, await place.ports.place(first, inside, ASKED))
        assert (place.host.bound, place.rules) == ([], [])

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("host_ip", "endpoint", "reached"),
    [
        ("", PLACE, (PLACE.address, 80)),
        ("0.0.0.0", PLACE, (PLACE.address, 80)),
        ("127.0.0.9", PLACE, (PLACE.address, 80)),
        ("127.0.0.1", SIX, (SIX.address6, 80)),
        ("192.168.1.5", PLACE, None),
        ("127.0.0.1", INTERNAL, None),
    ],
)
def test_what_localhost_leads_to(host_ip: str, endpoint: Endpoint, reached: tuple[str, int] | None) -> None:
    ports = Place(replace(WEB, endpoints=(endpoint,), ports=(replace(PORT, host_ip=host_ip),))).ports
    assert ports.reached_by(8080) == reached
    assert ports.reached_by(80) is None


@pytest.mark.parametrize(("host_ip", "shown"), [("127.0.0.9", "127.0.0.9"), ("::1", "[::1]")])
def test_a_lost_port_is_told_with_whose_it_is(host_ip: str, shown: str) -> None:
    port = replace(PORT, host_ip=host_ip)
    record = replace(WEB, ports=(port, replace(port, host_port=8081)))
    place = Place(record)
    place.host.lost = {port}
    place.ports.tell_lost(record)
    place.host.on_lost(PORT if host_ip == "::1" else replace(PORT, host_port=9), True)  # nobody's
    assert place.told == [("container", "port_lost", ID, {"name": "web", "port": f"{shown}:8080->80/tcp"})]
    assert place.changed == [ID]
    assert place.ports.without_lost(record).ports == record.ports[1:]
    assert place.host.owner(port) == "web"
    assert place.host.owner(replace(port, host_port=9)) == ""
