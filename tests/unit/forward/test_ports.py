"""Published ports, on a driver that only remembers."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace
from typing import Any

import pytest
from cove.drivers.base import Forward
from cove.errors import DriverError, PortInUse
from cove.forward.ports import PortForwards, free_port
from coved.link.protocol import PortForward


class Remembers:
    def __init__(self, taken: set[int] | None = None) -> None:
        self.bound: set[Forward] = set()
        self.taken = taken or set()
        self.holds_on = False
        self.late = False
        """It does what it is asked for, and says so too late."""

    async def forward(self, forward: Forward) -> None:
        await self._forward(forward)
        if self.late:
            raise DriverError("QEMU refused human-monitor-command: no answer in time")

    async def _forward(self, forward: Forward) -> None:
        if forward.host_port in self.taken or any(one.host_port == forward.host_port for one in self.bound):
            raise PortInUse(f"port {forward.host_port} cannot be bound")
        self.bound.add(forward)

    async def forwards(self) -> set[Forward]:
        return set(self.bound)

    async def unforward(self, forward: Forward) -> None:
        if self.holds_on:
            raise DriverError("the VM does not answer")
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


def test_any_free_port_is_another_one_when_somebody_was_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    driver: Any = Remembers({50001, 50002})
    free = iter([50001, 50002, 50003])
    monkeypatch.setattr("cove.forward.ports.free_port", lambda proto, address: next(free))
    bound = asyncio.run(PortForwards(driver, "127.0.0.1").publish(PortForward("udp", 49001)))
    assert bound.host_port == 50003


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


def test_a_port_that_others_took_is_lost_until_it_is_free_and_somebody_asks() -> None:
    driver: Any = Remembers()
    ports = PortForwards(driver, "127.0.0.1")
    mine = PortForward("tcp", 49002, "127.0.0.1", 0)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            lost = replace(mine, host_port=other.getsockname()[1])
            driver.taken = {lost.host_port}
            assert await ports.sync([lost]) == []
            assert [*ports.lost] == [lost]
            assert ports.lost[lost].endswith(f" (process {os.getpid()}) has it")
            await ports.retake()
            assert ports.lost.keys() == {lost}
        driver.taken = set()
        await ports.retake()
        assert (ports.lost, {one.host_port for one in driver.bound}) == ({}, {lost.host_port})
        # Whoever gives up a port that is lost does not want it back.
        await ports.unpublish(lost)
        driver.taken = {lost.host_port}
        with socket.create_server(("127.0.0.1", lost.host_port)):
            await ports.sync([lost])
        await ports.unpublish(lost)
        driver.taken = set()
        await ports.retake()
        assert (ports.lost, driver.bound) == ({}, set())

    asyncio.run(scenario())


def test_a_port_that_is_to_be_kept_is_lost_to_other_programs_alone() -> None:
    driver: Any = Remembers()
    ports = PortForwards(driver, "127.0.0.1")

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            wanted = PortForward("tcp", 49002, "", other.getsockname()[1])
            driver.taken = {wanted.host_port}
            with pytest.raises(PortInUse):
                await ports.publish(wanted)
            assert ports.lost == {}
            kept = await ports.publish(wanted, keep=True)
            assert kept == replace(wanted, host_ip="127.0.0.1")
            assert ports.lost.keys() == {kept}
            assert ports.lost[kept].endswith(f" (process {os.getpid()}) has it")
        driver.taken = set()
        await ports.retake()
        assert (ports.lost, {one.guest_port for one in driver.bound}) == ({}, {49002})
        with pytest.raises(PortInUse, match="another container has it"):
            await ports.publish(replace(wanted, guest_port=49003), keep=True)

    asyncio.run(scenario())


def test_sync_takes_over_what_an_earlier_agent_bound() -> None:
    driver: Any = Remembers()
    asyncio.run(PortForwards(driver, "127.0.0.1").publish(PortForward("tcp", 49001, "", 8080)))
    bound = asyncio.run(PortForwards(driver, "127.0.0.1").sync([PortForward("tcp", 49001, "127.0.0.1", 8080)]))
    assert [one.host_port for one in bound] == [8080]
    assert len(driver.bound) == 1


def test_what_an_earlier_agent_left_bound_and_nobody_wants_is_freed() -> None:
    driver: Any = Remembers()
    driver.bound = {Forward("tcp", "127.0.0.1", 22022, 22), Forward("tcp", "127.0.0.1", 8080, 49001)}
    asyncio.run(PortForwards(driver, "127.0.0.1").sync([]))
    assert driver.bound == {Forward("tcp", "127.0.0.1", 22022, 22)}


def test_a_publish_that_is_withdrawn_takes_nothing_from_who_has_the_port() -> None:
    driver: Any = Remembers()
    ports = PortForwards(driver, "127.0.0.1")

    async def scenario() -> None:
        await ports.publish(PortForward("tcp", 49001, "", 8080))
        await ports.unpublish(PortForward("tcp", 49002, "", 8080))
        assert [one.guest_port for one in driver.bound] == [49001]
        await ports.unpublish(PortForward("tcp", 49001))  # whichever it was
        assert driver.bound == set()

    asyncio.run(scenario())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_that_could_not_be_freed_is_freed_later(address: str) -> None:
    driver: Any = Remembers()
    ports = PortForwards(driver, "127.0.0.1")

    async def scenario() -> None:
        bound = await ports.publish(PortForward("tcp", 49001, address))
        driver.holds_on = True
        with pytest.raises(DriverError):
            await ports.unpublish(bound)
        other = PortForward("tcp", 49002, "127.0.0.1", free_port("tcp", "127.0.0.1"))
        assert await ports.sync([other]) == [other]  # and the others have theirs
        assert len(driver.bound) == 2
        driver.holds_on = False
        await ports.sync([other])
        assert [one.guest_port for one in driver.bound] == [49002]
        assert (await ports.publish(replace(bound, guest_port=49003))).host_port == bound.host_port
        ports.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("other", ["127.0.0.1", "0.0.0.0"])
def test_all_addresses_and_one_of_them_are_in_each_others_way(other: str) -> None:
    driver: Any = Remembers()
    ports = PortForwards(driver, "127.0.0.1")

    async def scenario() -> None:
        await ports.publish(PortForward("tcp", 49001, other, 8080))
        for address in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(PortInUse, match="another container has it"):
                await ports.publish(PortForward("tcp", 49002, address, 8080))
        await ports.publish(PortForward("udp", 49002, "127.0.0.1", 8081))

    asyncio.run(scenario())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("asked", [0, 1])
def test_a_port_that_was_bound_and_not_answered_for_is_freed(address: str, asked: int) -> None:
    driver: Any = Remembers()
    ports = PortForwards(driver, "127.0.0.1")

    async def scenario() -> None:
        kept = await ports.publish(PortForward("tcp", 49001, "::1"))
        before = set(driver.bound)
        port = PortForward("tcp", 49002, address, asked and free_port("tcp", address))
        driver.late = True
        with pytest.raises(DriverError, match="no answer in time"):
            await ports.publish(port)
        assert len(driver.bound) == 2
        driver.late = False
        await ports.unpublish(port)  # as the engine does that has no answer
        assert driver.bound == before  # of the relay, nothing has gone
        await ports.publish(port)
        await ports.unpublish(kept)
        assert len(driver.bound) == 1
        await ports.sync([])
        assert driver.bound == set()
        ports.close()

    asyncio.run(scenario())


def test_what_could_not_be_freed_is_freed_with_the_next_port() -> None:
    driver: Any = Remembers()
    ports = PortForwards(driver, "127.0.0.1")

    async def scenario() -> None:
        bound = await ports.publish(PortForward("tcp", 49001))
        driver.holds_on = True
        with pytest.raises(DriverError):
            await ports.unpublish(bound)
        driver.holds_on = False
        await ports.publish(replace(bound, guest_port=49002))
        assert {one.guest_port for one in driver.bound} == {49002}

    asyncio.run(scenario())


def test_a_relays_way_inside_makes_room_for_who_wants_its_port() -> None:
    driver: Any = Remembers()
    ports = PortForwards(driver, "127.0.0.1")

    async def scenario() -> None:
        outer = await ports.publish(PortForward("tcp", 49001, "::1"))
        (inner,) = driver.bound
        wanted = PortForward("tcp", 49002, "0.0.0.0", inner.host_port)
        assert await ports.publish(wanted) == wanted
        moved = next(one for one in driver.bound if one.guest_port == 49001)
        assert moved.host_port != inner.host_port
        with socket.create_server(("127.0.0.1", moved.host_port)) as server:
            reader, writer = await asyncio.open_connection("::1", outer.host_port)
            accepted = await asyncio.to_thread(lambda: server.accept()[0])
            accepted.sendall(b"moved")
            accepted.close()
            assert await reader.read() == b"moved"
            writer.close()
        await ports.unpublish(outer)
        assert {one.guest_port for one in driver.bound} == {49002}

    asyncio.run(scenario())


def test_the_agents_own_way_into_the_machine_is_not_published() -> None:
    driver: Any = Remembers()
    ports = PortForwards(driver, "127.0.0.1")
    with pytest.raises(DriverError, match="port 22 of the machine is not published"):
        asyncio.run(ports.publish(PortForward("tcp", 22)))
    assert driver.bound == set()


@pytest.mark.parametrize(
    ("asked", "said", "may"),
    [
        ("", "127.0.0.1", True), ("127.0.0.2", "127.0.0.1", True), ("::1", "127.0.0.1", True), ("0.0.0.0", "127.0.0.1", False),
        ("192.0.2.7", "127.0.0.1", False), ("::", "127.0.0.1", False), ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.8", "192.0.2.7", False), ("0.0.0.0", "192.0.2.7", False), ("192.0.2.7", "0.0.0.0", True), ("::", "0.0.0.0", False),
    ],
)  # fmt: skip
def test_who_is_confined_has_only_addresses_that_the_user_has_said(asked: str, said: str, may: bool) -> None:
    driver: Any = Remembers()
    ports = PortForwards(driver, said, confined=True)
    port = PortForward("tcp", 49001, asked, free_port("tcp", "127.0.0.1"))
    if may:
        asyncio.run(ports.publish(port))
        assert len(driver.bound) == 1
        return
    with pytest.raises(DriverError, match=f"and not at {asked}"):
        asyncio.run(ports.publish(port))
    with pytest.raises(DriverError, match=f"and not at {asked}"):
        asyncio.run(ports.publish(port, keep=True))
    assert asyncio.run(ports.sync([port])) == []
    assert "bind_address" in ports.lost[port]
    assert not driver.bound
