"""Sandboxes over a kernel of the tests' own, which fails where it is told to: nothing is left half done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from coved.errors import EngineError
from coved.networks.definition import Network
from coved.networks.firewall import PortRule
from coved.networks.model import Endpoint, PublishedPort
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


PORT = PublishedPort("tcp", 80, "", 8080)
BOTH = Record(ID, "web", "bridge", (endpoint(FIRST, 0), endpoint(SECOND, 1)), (PORT,))
ALONE = replace(BOTH, endpoints=BOTH.endpoints[:1])


class World:
    """The kernel, the addresses and the ports, as far as sandboxes can tell. ``failing`` is the step that does."""

    def __init__(self, record: Record) -> None:
        self.failing = ""
        self.links = {one.host_interface for one in record.endpoints}
        self.rules = {self.rule(port, record.endpoints[0].address) for port in record.ports}
        self.route = record.endpoints[0].gateway
        self.taken: set[str] = set()
        self.published = set(record.ports)

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
        self.links.remove(gone.host_interface)
        if self.route == gone.gateway:
            self.route = ""

    def set_default_route(self, container_id: str, after: Endpoint) -> None:
        self._step("set_default_route")
        self.route = after.gateway

    # -- the publisher

    async def unpublish(self, ports: tuple[PublishedPort, ...]) -> None:
        self.published -= {*ports}

    def adopt(self, ports: tuple[PublishedPort, ...]) -> None:
        pass

    def rule(self, port: PublishedPort, address: str) -> PortRule:
        return PortRule(port.proto, "", port.host_port, address, port.container_port)

    # -- the catalog

    def get(self, reference: str) -> Network:
        return {FIRST.id: FIRST, SECOND.id: SECOND}[reference]

    __getitem__ = get

    def __contains__(self, network_id: str) -> bool:
        return network_id in (FIRST.id, SECOND.id)

    def __iter__(self) -> Any:
        return iter((FIRST, SECOND))

    def connections(self, container_id: str) -> dict[str, Any]:
        return {}

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
    events: Any = SimpleNamespace(publish=lambda *words: None)
    made = Sandboxes(_Catalog(world), kernel, world, events, folder, "")  # type: ignore[arg-type]
    await made.adopt([ID])
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

    def disconnect(self, container_id: str, network: Network) -> None:
        pass


def on_disk(folder: Path) -> list[Record]:
    return [*Records(folder / "sandboxes").load()]


@pytest.mark.parametrize("record", [BOTH, ALONE])
@pytest.mark.parametrize("failing", ["remove_ports", "add_ports", "disconnect"])
def test_a_disconnection_that_fails_leaves_all_as_it_was(failing: str, record: Record, tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(record)
        sandboxes = await adopted(world, tmp_path, record)
        before = (set(world.links), set(world.rules), set(world.taken), world.route)
        world.failing = failing
        with pytest.raises(EngineError, match=f"no {failing} today"):
            await sandboxes.disconnect(FIRST.id, ID)
        assert (world.links, world.rules, world.taken, world.route) == before
        assert world.published == {PORT}
        assert [*sandboxes] == on_disk(tmp_path) == [record]
        await sandboxes.disconnect(FIRST.id, ID)  # and it can be tried again
        assert [*sandboxes] == on_disk(tmp_path) != [record]

    asyncio.run(scenario())


@pytest.mark.parametrize("failing", ["", "set_default_route", "save"])
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
        assert world.rules == {world.rule(PORT, second.address)}
        assert world.taken == {second.address}
        assert world.route == ("" if failing == "set_default_route" else second.gateway)
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
