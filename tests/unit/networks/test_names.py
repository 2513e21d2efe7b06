"""What containers see of each other's names, as sandboxes come, change and go; no sockets, no kernel."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import replace
from pathlib import Path
from typing import Any

from coved.names import message
from coved.names.message import Query
from coved.networks.model import Endpoint
from coved.networks.names import FORWARDED, Names, _View, names_of, wanted
from coved.networks.opened import Opened
from coved.networks.records import Record
from hypothesis import given
from hypothesis import strategies as st


def endpoint(network: str, address: str, **more: Any) -> Endpoint:
    gateway = more.pop("gateway", "10.0.0.1")
    return Endpoint(network * 3, network, "e", "eth0", "v", address, 24, gateway, "", **more)


def record(name: str, *endpoints: Endpoint, **more: Any) -> Record:
    return Record(name * 12, name, "bridge", endpoints, hostname=f"host-{name}", **more)


class World:
    def __init__(self, *records: Record) -> None:
        self.opened = Opened()
        for one in records:
            self.opened[one.container_id] = one
        self.names = Names(self.opened, None, Path("/nowhere"), lambda: "10.9.9.9")  # type: ignore[arg-type]

    def ask(self, who: str, name: str) -> list[str]:
        found = _View(self.names, who * 12).addresses(name)
        return [str(ipaddress.IPv4Address(one)) for one in found or ()]


def test_names_are_those_of_shared_networks() -> None:
    a = record("a", endpoint("one", "10.1.0.2"), endpoint("two", "10.2.0.2", aliases=("Al",)))
    b, c = record("b", endpoint("one", "10.1.0.3")), record("c", endpoint("two", "10.2.0.3"))
    d = record("d", endpoint("bridge", "10.3.0.2"), endpoint("one", "10.1.0.4"))
    e = record("e", endpoint("bridge", "10.3.0.3"))
    world = World(a, b, c, d, e)
    assert world.ask("b", "a") == world.ask("b", "host-a") == world.ask("b", "a" * 12) == ["10.1.0.2"]
    assert world.ask("c", "a") == world.ask("c", "al") == ["10.2.0.2"]
    assert world.ask("b", "al") == world.ask("b", "c") == world.ask("b", "a.two") == []
    assert world.ask("a", "a.two") == ["10.2.0.2"]
    assert world.ask("d", "a") == ["10.1.0.2"]
    assert world.ask("d", "e") == world.ask("d", "d.bridge") == []
    assert world.ask("nobody", "a") == []
    assert world.ask("b", "host.docker.internal") == ["10.9.9.9"]
    assert [wanted(one) for one in (a, d, e)] == [True, True, False]
    assert names_of(a, a.endpoints[1]) == ("a", "Al", "a" * 12, "host-a")
    view = _View(world.names, "b" * 12)
    assert (view.name_of("10.1.0.2"), view.name_of("10.2.0.2"), view.name_of("10.3.0.3")) == ("a.one", "", "")


def test_changes_are_seen_at_once() -> None:
    a, b = record("a", endpoint("one", "10.1.0.2")), record("b", endpoint("one", "10.1.0.3"))
    world = World(a, b)
    assert world.ask("a", "b") == ["10.1.0.3"]
    world.opened[b.container_id] = replace(b, container_name="c")
    assert (world.ask("a", "b"), world.ask("a", "c")) == ([], ["10.1.0.3"])
    world.opened[b.container_id] = replace(b, endpoints=(endpoint("one", "10.1.0.9"),))
    assert world.ask("a", "b") == ["10.1.0.9"]
    world.opened.pop(b.container_id)
    assert world.ask("a", "b") == []


def test_links_are_names_for_one_container_alone() -> None:
    links = ("a:One", "a" * 12 + ":two", "host-a:three", "web:four", "other:five", "aa:six", "a:")
    a = record("a", endpoint("n", "10.0.0.2", aliases=("web",)))
    other = record("other", endpoint("m", "10.1.0.2"))
    mine = record("c", endpoint("n", "10.0.0.3", links=links))
    world = World(a, other, mine)
    assert {name: world.ask("c", name) for name in ("one", "two", "three", "four", "five", "six", "")} == {
        **{key: ["10.0.0.2"] for key in ("one", "two", "three", "four")}, "five": [], "six": [], "": [],
    }  # fmt: skip
    assert world.ask("a", "one") == []
    world.opened[a.container_id] = replace(a, container_name="z")
    assert world.ask("c", "one") == []
    assert world.ask("c", "four") == ["10.0.0.2"]


def test_a_builds_command_sees_names_and_has_none() -> None:
    a = record("a", endpoint("n", "10.0.0.2"))
    build = record("build", endpoint("n", "10.0.0.3"), quiet=True)
    world = World(a, build)
    assert world.ask("build", "a") == ["10.0.0.2"]
    assert world.ask("a", "build") == []


def test_who_has_no_way_out_asks_nobody_else() -> None:
    inner = record("a", endpoint("n", "10.0.0.2", gateway=""))
    both = record("b", endpoint("n", "10.0.0.3", gateway=""), endpoint("bridge", "10.3.0.2"), ndots=True)
    world = World(inner, both)
    views = [_View(world.names, one * 12) for one in ("a", "b", "gone")]
    assert [view.forwards for view in views] == [False, True, False]
    assert [view.dotless for view in views] == [True, False, True]


def test_not_more_is_asked_elsewhere_than_there_are_descriptors_for() -> None:
    world = World(record("a", endpoint("n", "10.0.0.2")))
    world.names._forwarded = FORWARDED
    query = Query(1, 0, "x", 1, 1, b"\1x\0\0\1\0\1", 512, False)
    reply = asyncio.run(world.names.forward(query, [], by_tcp=False))
    assert message.code(reply) == message.REFUSED
    assert world.names._forwarded == FORWARDED


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"), st.booleans()), max_size=30))
def test_names_are_always_those_of_what_is_open(steps: list[tuple[str, str, bool]]) -> None:
    world = World(record("q", *(endpoint(network, "10.0.0.1") for network in "xyz")))
    model: dict[str, tuple[str, str]] = {}
    for number, (who, network, there) in enumerate(steps, 2):
        if there:
            model[who] = (network, f"10.0.0.{number}")
            one = record(who, endpoint(*model[who]))
            world.opened[one.container_id] = one
        else:
            model.pop(who, None)
            world.opened.pop(who * 12, None)
        for name in "abcd":
            assert world.ask("q", name) == ([model[name][1]] if name in model else [])
