"""Published ports, on a driver that only remembers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cove.drivers.base import Forward
from cove.errors import PortInUse
from cove.forward.ports import PortForwards
from coved.link.protocol import PortForward


class Remembers:
    def __init__(self, taken: set[int] | None = None) -> None:
        self.bound: set[Forward] = set()
        self.taken = taken or set()

    async def forward(self, forward: Forward) -> None:
        if forward.host_port in self.taken or any(one.host_port == forward.host_port for one in self.bound):
            raise PortInUse(f"port {forward.host_port} cannot be bound")
        self.bound.add(forward)

    async def unforward(self, forward: Forward) -> None:
        self.bound = {one for one in self.bound if (one.proto, one.host_port) != (forward.proto, forward.host_port)}


def test_ports_bind_where_the_settings_say_and_come_back() -> None:
    driver: Any = Remembers()
    ports = PortForwards(driver, "127.0.0.1")
    bound = asyncio.run(ports.publish(PortForward("tcp", 49001, "", 8080)))
    assert (bound.host_ip, bound.host_port) == ("127.0.0.1", 8080)
    assert driver.bound == {Forward("tcp", "127.0.0.1", 8080, 49001)}
    asyncio.run(ports.unpublish(bound))
    assert driver.bound == set()


def test_any_free_port_is_found() -> None:
    driver: Any = Remembers()
    bound = asyncio.run(PortForwards(driver, "127.0.0.1").publish(PortForward("udp", 49001)))
    assert bound.host_port > 0


def test_a_port_that_is_taken_is_refused() -> None:
    driver: Any = Remembers({8080})
    with pytest.raises(PortInUse):
        asyncio.run(PortForwards(driver, "127.0.0.1").publish(PortForward("tcp", 49001, "", 8080)))


def test_sync_makes_the_forwards_exactly_those() -> None:
    driver: Any = Remembers()
    ports = PortForwards(driver, "127.0.0.1")

    async def scenario() -> None:
        await ports.publish(PortForward("tcp", 49001, "", 8080))
        await ports.publish(PortForward("tcp", 49002, "", 8081))
        await ports.sync([PortForward("tcp", 49002, "127.0.0.1", 8081), PortForward("tcp", 49003, "127.0.0.1", 8082)])

    asyncio.run(scenario())
    assert {one.host_port for one in driver.bound} == {8081, 8082}


def test_sync_takes_over_what_an_earlier_agent_bound() -> None:
    driver: Any = Remembers()
    asyncio.run(PortForwards(driver, "127.0.0.1").publish(PortForward("tcp", 49001, "", 8080)))
    bound = asyncio.run(PortForwards(driver, "127.0.0.1").sync([PortForward("tcp", 49001, "127.0.0.1", 8080)]))
    assert [one.host_port for one in bound] == [8080]
    assert len(driver.bound) == 1
