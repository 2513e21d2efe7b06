"""Sandboxes over a kernel of the tests' own, which fails where it is told to: nothing is left half done."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from coved.errors import EngineError, NotFound
from coved.networks.definition import Network
from coved.networks.endpoints import Gateways
from coved.networks.firewall import PortRule
from coved.networks.model import Endpoint, EndpointRequest, PortRequest, PublishedPort, SandboxRequest
from coved.networks.records import Record, Records
from coved.networks.sandboxes import Sandboxes

ID = "c" * 64
FIRST, SECOND = (
    Network(f"{n}" * 64, f"net{n}", "bridge", n, f"br{n}", f"10.20{n}.0.0/24", f"10.20{n}.0.1") for n in (1, 2)
)


def endpoint(net: Network, number: int) -> Endpoint:
    address = net.gateway.removesuffix(".1") + ".2"
    return Endpoint(
        net.id,
        net.name,
        "e" * 64,
        f"eth{number}",
        f"v{net.name}",
        address,
        24,
        net.gateway,
        f"02:00:00:00:00:0{number}",
    )


SIX = replace(endpoint(SECOND, 1), address="", gateway="", address6="fd00::2", gateway6="fd00::1")
PORT = PublishedPort("tcp", 80, "", 8080)
ASKED = SandboxRequest("web", FIRST.id, ports=(PortRequest("tcp", 80, "", 8080),))
BOTH = Record(ID, "web", "bridge", (endpoint(FIRST, 0), endpoint(SECOND, 1)), (PORT,))
ALONE = replace(BOTH, endpoints=BOTH.endpoints[:1])


class World:
    """The kernel, the addresses and the ports, as far as sandboxes can tell. ``failing`` is the step that does."""

    def __init__(self, record: Record) -> None:
        self.failing = ""
        self.links = {one.host_interface for one in record.endpoints}
        self.rules = {rule for port in record.ports for rule in self.rules_for(port, record.endpoints[0].address)}
        self.route = record.endpoints[0].gateway
        self.taken: set[str] = set()
        self.published = set(record.ports)
        self.lost: set[PublishedPort] = set()
        self.on_lost: Any = None
        self.told: list[Any] = []
        self.listeners: dict[PublishedPort, socket.socket] = {}
        self.joined: dict[str, EndpointRequest] = {}
        self.left: set[str] = set()
        self.removed = ""

    def _step(self, name: str) -> None:
        if name == self.failing:
            self.failing = ""
            raise EngineError(f"no {name} today")

    # -- the datapath

    @property
    def datapath(self) -> World:
        return self

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        await asyncio.sleep(0)
        return function(*arguments)

    def links_now(self) -> set[str]:
        return set(self.links)

    def listener(self, port: PublishedPort) -> socket.socket:
        self._step("listener")
        self.listeners[port] = made = socket.socket()
        return made

    def remove_ports(self, rules: list[PortRule]) -> None:
        self._step("remove_ports")
        for rule in rules:
            self.rules.remove(rule)

    def add_ports(self, rules: list[PortRule]) -> None:
        self._step("add_ports")
        assert not self.rules & {*rules}
        self.rules |= {*rules}

    def disconnect(self, container_id: str, gone: Endpoint) -> None:
        self._step("disconnect")
        self.links.discard(gone.host_interface)
        if self.route == gone.gateway:
            self.route = ""

    def connect(self, container_id: str, network: Network, made: Endpoint, ways: Gateways) -> None:
        self._step("connect")
        self.links.add(made.host_interface)
        self.set_ways_out(container_id, ways)

    def set_ways_out(self, container_id: str, ways: Gateways) -> None:
        self._step("set_ways_out")
        self.route = ways.ipv4.gateway if ways.ipv4 is not None else ""

    # -- the publisher

    async def publish(self, requests: list[PortRequest], *, keep: bool = False) -> tuple[PublishedPort, ...]:
        self._step("publish")
        assert not self.published
        ports = tuple(PublishedPort(one.proto, one.container_port, "", one.host_port) for one in requests)
        self.published |= {*ports}
        return ports

    async def unpublish(self, ports: tuple[PublishedPort, ...]) -> None:
        self.published -= {*ports}

    def adopt(self, ports: tuple[PublishedPort, ...]) -> None:
        pass

    def rules_for(self, port: PublishedPort, address: str) -> list[PortRule]:
        return [PortRule(port.proto, "", port.host_port, address, port.container_port)]

    # -- the catalog

    def get(self, reference: str) -> Network:
        return {FIRST.id: FIRST, SECOND.id: SECOND}[reference]

    __getitem__ = get

    def __contains__(self, network_id: str) -> bool:
        return network_id in (FIRST.id, SECOND.id) and network_id != self.removed

    def __iter__(self) -> Any:
        return iter((FIRST, SECOND))

    def joined_and_left(self, container_id: str) -> tuple[dict[str, Any], set[str]]:
        return dict(self.joined), self.left

    def matching(self, reference: str) -> list[Network]:
        return [self.get(reference)]

    def allocate(self, wanted: Any, first: int) -> tuple[Endpoint, ...]:
        made = tuple(endpoint(network, number) for number, (network, _) in enumerate(wanted, first))
        self.taken |= {one.address for one in made}
        return made

    def take(self, one: Endpoint) -> None:
        self.taken.add(one.address)

    def release(self, endpoints: list[Endpoint]) -> None:
        self.taken -= {one.address for one in endpoints}


class Datapath:
    """What an engine's start asks for, too."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def links(self) -> set[str]:
        return self._world.links_now()

    def has_namespace(self, container_id: str) -> bool:
        return True

    def start(self, bridges: Any, keep: dict[str, Endpoint], rules: Any) -> None:
        assert {*keep} <= self._world.links

    def remove_namespaces_except(self, container_ids: set[str]) -> None:
        pass


async def adopted(world: World, folder: Path, record: Record) -> Sandboxes:
    Records(folder / "sandboxes").save(record)
    kernel: Any = SimpleNamespace(run=world.run, datapath=Datapath(world))
    events: Any = SimpleNamespace(publish=lambda *words: world.told.append(words))
    made = Sandboxes(_Catalog(world), kernel, world, events, folder, "")  # type: ignore[arg-type]
    await made.adopt([ID])
    names: Any = {ID}  # its DNS server, for which a namespace would have to be there
    made._names = names
    return made


class _Catalog:
    """The catalog's ``disconnect`` is another than the datapath's."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def __getitem__(self, network_id: str) -> Network:
        return self._world.get(network_id)

    def __contains__(self, network_id: str) -> bool:
        return network_id in self._world

    def __iter__(self) -> Any:
        return iter(self._world)

    def connect(self, container_id: str, request: EndpointRequest) -> None:
        self._world._step("record")
        self._world.joined[request.network] = request

    def disconnect(self, container_id: str, network: Network, *, created_on: bool = False) -> None:
        if created_on:
            self._world.left.add(network.id)
        self._world._step("record")
        self._world.joined.pop(network.id, None)

    def rejoin(
        self, container_id: str, network: Network, request: EndpointRequest | None, *, created_on: bool = False
    ) -> None:
        if created_on:
            self._world.left.discard(network.id)
        if request is not None:
            self._world.joined[network.id] = request


def on_disk(folder: Path) -> list[Record]:
    return [*Records(folder / "sandboxes").load()]


@pytest.mark.parametrize("record", [BOTH, ALONE])
@pytest.mark.parametrize("failing", ["remove_ports", "add_ports", "disconnect", "record"])
def test_a_disconnection_that_fails_leaves_all_as_it_was(failing: str, record: Record, tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(record)
        sandboxes = await adopted(world, tmp_path, record)
        before = (set(world.links), set(world.rules), set(world.taken), world.route)
        world.joined = {SECOND.id: EndpointRequest(SECOND.id)}
        joined = dict(world.joined)
        world.failing = failing
        with pytest.raises(EngineError, match=f"no {failing} today"):
            await sandboxes.disconnect(FIRST.id, ID, request=ASKED)
        assert (world.links, world.rules, world.taken, world.route) == before
        assert (world.joined, world.left) == (joined, set())
        assert world.published == {PORT}
        assert [*sandboxes] == on_disk(tmp_path) == [record]
        await sandboxes.disconnect(FIRST.id, ID)  # and it can be tried again
        assert [*sandboxes] == on_disk(tmp_path) != [record]

    asyncio.run(scenario())


@pytest.mark.parametrize("failing", ["", "set_ways_out", "save"])
def test_a_disconnection_is_finished_once_the_pair_is_gone(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        world = World(BOTH)
        sandboxes = await adopted(world, tmp_path, BOTH)
        world.failing = failing
        if failing == "save":
            monkeypatch.setattr(Records, "save", no_room)
        await sandboxes.disconnect(FIRST.id, ID)
        second = BOTH.endpoints[1]
        assert world.links == {second.host_interface}
        assert world.rules == {*world.rules_for(PORT, second.address)}
        assert world.taken == {second.address}
        assert world.route == ("" if failing == "set_ways_out" else second.gateway)
        assert [*sandboxes] == [replace(BOTH, endpoints=(second,))]

    asyncio.run(scenario())
    assert ("the network of container cccccccccccc" in caplog.text) == bool(failing)


def no_room(records: Records, record: Record) -> None:
    raise OSError(28, "No space left on device")


def test_the_last_network_takes_the_ports_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(ALONE)
        sandboxes = await adopted(world, tmp_path, ALONE)
        await sandboxes.disconnect(FIRST.id, ID)
        assert (world.links, world.rules, world.taken, world.published) == (set(), set(), set(), set())
        assert [*sandboxes] == on_disk(tmp_path) == [replace(ALONE, endpoints=(), ports=())]

    asyncio.run(scenario())


def test_a_connection_that_was_noted_and_not_made_is_forgotten(tmp_path: Path) -> None:
    """The engine was killed after it had written the connection down, and before its pair was there."""

    async def scenario() -> None:
        world = World(ALONE)
        sandboxes = await adopted(world, tmp_path, BOTH)
        assert [*sandboxes] == on_disk(tmp_path) == [ALONE]
        assert world.taken == {ALONE.endpoints[0].address}

    asyncio.run(scenario())


def test_a_network_that_is_removed_meanwhile_is_told_of(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(ALONE)
        sandboxes = await adopted(world, tmp_path, ALONE)
        connection = asyncio.ensure_future(sandboxes.connect(SECOND.id, ID, "web", EndpointRequest(SECOND.id), ASKED))
        await asyncio.sleep(0)  # it is on record that it shall be there
        assert world.joined.keys() == {SECOND.id}
        world.removed = SECOND.id
        with pytest.raises(NotFound, match=r"^network net2 not found$"):
            await connection
        assert [*sandboxes] == on_disk(tmp_path) == [ALONE]
        assert world.joined == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("failing", ["", "record", "connect", "publish", "add_ports", "save"])
def test_ports_are_published_by_the_first_network_that_leads_out(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken off the one that it was created on, or that one was internal. What fails leaves all as it was."""

    async def scenario() -> None:
        alone = replace(ALONE, endpoints=(replace(endpoint(FIRST, 0), gateway=""),), ports=())
        world = World(alone)
        sandboxes = await adopted(world, tmp_path, alone)
        before = (set(world.links), set(world.rules), set(world.taken), world.route)
        world.failing = failing
        connected = sandboxes.connect(SECOND.id, ID, "web", EndpointRequest(SECOND.name), ASKED)
        if not failing:
            await connected
            assert world.published == {PORT}
            assert world.rules == {*world.rules_for(PORT, endpoint(SECOND, 1).address)}
            assert (
                [*sandboxes]
                == on_disk(tmp_path)
                == [replace(alone, endpoints=(*alone.endpoints, endpoint(SECOND, 1)), ports=(PORT,))]
            )
            assert {*world.joined} == {SECOND.id}
            return
        if failing == "save":
            monkeypatch.setattr(Records, "save", no_room_for_ports)
        with pytest.raises((EngineError, OSError)):
            await connected
        assert (world.links, world.rules, world.taken, world.route) == before
        assert (world.published, world.joined) == (set(), {})
        assert [*sandboxes] == [alone]

    asyncio.run(scenario())


_save = Records.save


def no_room_for_ports(records: Records, record: Record) -> None:
    if record.ports:
        no_room(records, record)
    _save(records, record)


def test_an_exchange_of_networks_keeps_the_ports(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(ALONE)
        sandboxes = await adopted(world, tmp_path, ALONE)
        await sandboxes.disconnect(FIRST.id, ID, request=ASKED)
        assert (world.published, world.rules) == (set(), set())
        await sandboxes.connect(SECOND.id, ID, "web", EndpointRequest(SECOND.name), ASKED)
        assert world.published == {PORT}
        assert world.rules == {*world.rules_for(PORT, endpoint(SECOND, 0).address)}

    asyncio.run(scenario())


def test_a_port_that_is_lost_is_told_and_not_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(BOTH)
        sandboxes = await adopted(world, tmp_path, BOTH)
        changed: list[str] = []
        sandboxes.on_change = changed.append
        shown = [{"HostIp": "", "HostPort": "8080"}]
        assert sandboxes.settings(ID)["Ports"] == {"80/tcp": shown}
        world.lost = {PORT}
        world.on_lost(PORT, True)
        assert sandboxes.settings(ID)["Ports"] == {}
        world.lost = set()
        world.on_lost(PORT, False)
        assert sandboxes.settings(ID)["Ports"] == {"80/tcp": shown}
        attributes = {"name": BOTH.container_name, "port": ":8080->80/tcp"}
        assert world.told == [("container", action, ID, attributes) for action in ("port_lost", "port_back")]
        assert changed == [ID, ID]

    asyncio.run(scenario())


def test_ports_are_relayed_when_what_is_left_has_no_ipv4(tmp_path: Path) -> None:
    async def scenario() -> None:
        both = replace(BOTH, endpoints=(BOTH.endpoints[0], SIX))
        world = World(both)
        sandboxes = await adopted(world, tmp_path, both)
        assert sandboxes.ports.reached_by(8080) == (BOTH.endpoints[0].address, 80)
        # A port that cannot be relayed keeps it where it is.
        world.failing = "listener"
        with pytest.raises(EngineError):
            await sandboxes.disconnect(FIRST.id, ID, request=ASKED)
        assert world.rules == {rule for port in BOTH.ports for rule in world.rules_for(port, BOTH.endpoints[0].address)}
        assert not world.listeners
        await sandboxes.disconnect(FIRST.id, ID, request=ASKED)
        assert (world.published, world.rules) == (set(BOTH.ports), set())
        assert world.listeners.keys() == set(BOTH.ports)
        assert [*sandboxes] == on_disk(tmp_path) == [replace(both, endpoints=(SIX,))]
        assert sandboxes.ports.reached_by(8080) == (SIX.address6, 80)
        await sandboxes.connect(FIRST.id, ID, "web", EndpointRequest(FIRST.id), request=ASKED)
        assert {one.container_address for one in world.rules} != set()
        assert all(one.fileno() < 0 for one in world.listeners.values())

    asyncio.run(scenario())
