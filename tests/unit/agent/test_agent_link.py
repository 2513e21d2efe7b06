"""The host's end of the link, over a real unix socket, against an engine that behaves and one that does not."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from cove.agent import link as module
from cove.agent.link import MAX_WORK, Link
from cove.errors import AgentError, DriverError, PortInUse
from cove.local.sockets import connect
from coved.link.protocol import (
    Activity,
    AskTime,
    FrameDecoder,
    Lost,
    PortForward,
    Publish,
    Ready,
    Stopping,
    Sync,
    Unpublish,
    encode,
)
from coved.outside import Outside

BOOT = "b" * 32


class Ports:
    """Stands for the forwards: refuses what the guest is told to be refused."""

    def __init__(self) -> None:
        self.bound: list[PortForward] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.working = 0
        self.most = 0
        self.lost: dict[PortForward, str] = {}

    async def publish(self, port: PortForward, *, keep: bool = False) -> PortForward:
        self.working += 1
        self.most = max(self.most, self.working)
        await self.gate.wait()
        self.working -= 1
        if port.host_port == 80:
            raise DriverError("listen tcp4 127.0.0.1:80: bind: permission denied")
        if port.host_port == 82:
            raise OSError("too many open files")
        if port.host_port == 81 and keep:
            self.lost[port] = "nginx (process 3) has it"
            return port
        if port.host_port == 81:
            raise PortInUse("nginx (process 3) has it")
        self.bound.append(port)
        return PortForward(port.proto, port.guest_port, "127.0.0.1", port.host_port or 40000)

    def close(self) -> None:
        return

    async def unpublish(self, port: PortForward) -> None:
        self.bound.remove(port)

    async def sync(self, ports: Any) -> list[PortForward]:
        self.bound = [port for port in ports if port.host_port != 81]
        self.lost = {port: "nginx (process 3) has it" for port in ports if port.host_port == 81}
        return self.bound

    async def retake(self) -> None:
        self.bound += self.lost
        self.lost.clear()


class Guest:
    """What QEMU's socket leads to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = FrameDecoder()
        self._messages: list[dict[str, Any]] = []

    def say(self, *messages: Any) -> None:
        for message in messages:
            self.writer.write(encode(message.to_json()))

    async def hear(self) -> dict[str, Any]:
        while not self._messages:
            data = await self.reader.read(1 << 16)
            assert data, "the host has closed the link"
            self._messages += self._decoder.feed(data)
        return self._messages.pop(0)


class Guests:
    """QEMU's socket, which takes a connection after the other."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Guest] = asyncio.Queue()
        self._all: list[Guest] = []

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._all.append(Guest(reader, writer))
        self._arrived.put_nowait(self._all[-1])

    async def next(self) -> Guest:
        return await self._arrived.get()

    def close(self) -> None:
        for guest in self._all:
            guest.writer.close()


def linked(tmp_path: Path, scenario: Callable[[Guest, Link, Ports], Awaitable[None]]) -> None:
    async def first(guests: Guests, link: Link, ports: Ports) -> None:
        await scenario(await guests.next(), link, ports)

    linked_again(tmp_path, first)


def linked_again(tmp_path: Path, scenario: Callable[[Guests, Link, Ports], Awaitable[None]]) -> None:
    async def run() -> None:
        ports: Any = Ports()
        guests = Guests()
        server = await asyncio.start_unix_server(guests.take, tmp_path / "link")
        link = Link(partial(connect, tmp_path / "link", 5), ports, BOOT)
        async with asyncio.timeout(60):
            await link.open()
            await scenario(guests, link, ports)
            await link.close()
            guests.close()
            server.close()

    asyncio.run(run())


async def ready(guest: Guest, link: Link) -> None:
    """An engine without published ports answers; what the host says of it is passed over."""
    guest.say(Ready(BOOT, "1.2.3", "1.51"), Sync(0, ()))
    await link.ready.wait()
    guest.say(AskTime(0))
    while (answer := await guest.hear())["type"] != "time" or answer.get("id") != 0:
        pass


def test_an_engine_that_opens_its_end_is_greeted_and_its_ready_believed(tmp_path: Path) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        link.changed(True)
        hello = await guest.hear()
        assert (hello["type"], hello["version"]) == ("hello", 1)
        assert not link.answering.is_set()
        await ready(guest, link)
        assert link.answering.is_set()
        assert link.engine is not None
        assert (link.engine.engine_version, link.engine.api_version) == ("1.2.3", "1.51")

    linked(tmp_path, scenario)


def test_a_ready_of_another_boot_is_not_believed(tmp_path: Path) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        guest.say(Ready("c" * 32, "1.2.3", "1.51"), Publish(1, PortForward("tcp", 1)))
        await guest.hear()  # the answer to what came after it
        assert not link.ready.is_set()

    linked(tmp_path, scenario)


def test_an_answer_to_an_engine_that_has_died_is_not_taken_for_one_to_the_next(tmp_path: Path) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        link.changed(True)
        assert (await guest.hear())["type"] == "hello"
        ports.gate.clear()
        guest.say(Publish(1, PortForward("tcp", 49001, "", 8080)))
        while not ports.working:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)
        link.changed(False)
        link.changed(True)
        assert (await guest.hear())["type"] == "hello"
        guest.say(Publish(1, PortForward("tcp", 49002, "", 8081)))
        ports.gate.set()
        answer = await guest.hear()
        assert (answer["id"], answer["ports"][0]["host_port"]) == (1, 8081)
        assert len(ports.bound) == 2

    linked(tmp_path, scenario)


def test_an_engine_whose_kernel_did_not_take_its_answer_is_greeted_until_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GREET_AGAIN_S", 0.05)

    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        link.changed(True)
        for _ in range(3):
            assert (await guest.hear())["type"] == "hello"
        guest.say(Sync(1, ()))
        while (heard := await guest.hear())["type"] == "hello":
            pass
        assert heard["type"] == "reply"
        await asyncio.sleep(0.2)
        guest.say(Sync(2, ()))
        assert [(await guest.hear())["type"] for _ in range(2)] == ["lost", "reply"]  # and no more hello

    linked(tmp_path, scenario)


def test_an_engine_is_told_the_time_when_it_asks_and_again_while_somebody_cares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRIFT_S", 0.1)

    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        link.changed(True)
        assert (await guest.hear())["answers_time"] is True
        before = time.time_ns()
        guest.say(AskTime(7))
        answer = await guest.hear()
        assert (answer["type"], answer["id"]) == ("time", 7)
        assert before <= answer["unix_ns"] <= time.time_ns()
        guest.say(Activity("running"))
        await ready(guest, link)
        for _ in range(2):  # by itself
            told = await guest.hear()
            assert (told["type"], "id" in told) == ("time", False)
        guest.say(Activity("idle"), AskTime(8))
        while (await guest.hear()).get("id") != 8:
            pass
        await asyncio.sleep(0.3)
        link.seen()  # it has been told just now
        guest.say(AskTime(9))
        assert (await guest.hear())["id"] == 9
        monkeypatch.setattr(module, "SEEN_S", 0.0)
        link.seen()
        assert "id" not in await guest.hear()

    linked(tmp_path, scenario)


@pytest.mark.parametrize("how", ["stopping", "closed", "gone"])
def test_an_engine_that_goes_answers_no_more_until_it_is_ready_again(tmp_path: Path, how: str) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        deaths: list[float] = []
        link.on_engine_death = deaths.append
        await ready(guest, link)
        if how == "stopping":
            guest.say(Stopping())
        elif how == "closed":
            link.changed(False)
        else:
            guest.writer.close()
        while link.ready.is_set():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)
        assert not link.answering.is_set()
        if how != "gone":
            link.changed(True)
            assert (await guest.hear())["type"] == "hello"
            assert not link.ready.is_set()
            await ready(guest, link)
        # One that said that it stops has not died; and of a death is told when there is another engine.
        assert len(deaths) == (1 if how == "closed" else 0)

    linked(tmp_path, scenario)


def test_a_guest_is_told_what_is_lost_and_when_it_is_back(tmp_path: Path) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        mine, lost = PortForward("tcp", 49001, "127.0.0.1", 8080), PortForward("udp", 49002, "::1", 81)
        guest.say(Sync(1, (mine, lost)))
        assert [PortForward.from_json(one) for one in (await guest.hear())["ports"]] == [mine]
        assert await guest.hear() == Lost((lost,)).to_json()
        assert link.lost_ports == {"[::1]:81/udp": "nginx (process 3) has it"}
        await link.retake_ports()
        assert await guest.hear() == Lost(()).to_json()
        assert (ports.bound, link.lost_ports) == ([mine, lost], {})

    linked(tmp_path, scenario)


def test_a_port_that_was_lost_is_tried_again_when_a_container_gets_one_or_gives_one_back(tmp_path: Path) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        mine, lost = PortForward("tcp", 49001, "127.0.0.1", 8080), PortForward("udp", 49002, "::1", 81)
        for message in (Publish(2, PortForward("tcp", 49003, "127.0.0.1", 8081)), Unpublish(2, mine)):
            link.changed(True)
            await guest.hear()
            guest.say(Sync(1, (mine, lost)))
            await guest.hear()
            assert await guest.hear() == Lost((lost,)).to_json()
            guest.say(message)
            assert (await guest.hear())["type"] == "reply"
            assert await guest.hear() == Lost(()).to_json()
            assert lost in ports.bound

    linked(tmp_path, scenario)


def test_a_guest_hears_that_a_port_is_lost_before_the_answer(tmp_path: Path) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        link.changed(True)
        await guest.hear()
        kept = PortForward("tcp", 49002, "127.0.0.1", 81)
        guest.say(Sync(1, ()), Publish(2, kept, keep=True))
        words = [await guest.hear() for _ in range(4)]
        assert [word["type"] for word in words] == ["reply", "lost", "lost", "reply"]
        assert words[2] == Lost((kept,)).to_json()
        assert (words[3]["ok"], words[3]["ports"]) == (True, [kept.to_json()])

    linked(tmp_path, scenario)


def test_who_counts_uses_hears_of_ports(tmp_path: Path) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        seen: list[list[PortForward]] = []
        link.on_level = lambda: seen.append([*ports.bound])
        port = PortForward("tcp", 49001, "127.0.0.1", 8080)
        for message in (Publish(1, port), Unpublish(2, port), Sync(3, (port,))):
            guest.say(message)
            await guest.hear()
        assert seen == [[port], [], [port]]

    linked(tmp_path, scenario)


def test_clients_are_let_in_when_nothing_is_bound_any_more_that_ended_meanwhile(tmp_path: Path) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        ports.bound = [PortForward("tcp", 49001, "127.0.0.1", 8080)]
        slow, sync = asyncio.Event(), ports.sync

        async def slowly(wanted: Any) -> list[PortForward]:
            await slow.wait()
            return await sync(wanted)

        ports.sync = slowly  # type: ignore[method-assign]
        link.changed(True)
        assert (await guest.hear())["type"] == "hello"
        guest.say(Ready(BOOT, "1.2.3", "1.51"), Sync(1, ()), AskTime(2))
        assert (await guest.hear())["id"] == 2
        assert not link.ready.is_set()
        assert not link.answering.is_set()
        slow.set()
        await link.ready.wait()
        assert link.answering.is_set()
        assert ports.bound == []

    linked(tmp_path, scenario)


def test_requests_are_answered_with_what_was_bound_or_why_not(tmp_path: Path) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        guest.say(Publish(1, PortForward("tcp", 1, "", 8080)))
        assert await guest.hear() == {
            "type": "reply", "id": 1, "ok": True,
            "ports": [{"proto": "tcp", "host_ip": "127.0.0.1", "host_port": 8080, "guest_port": 1}],
        }  # fmt: skip
        guest.say(Publish(2, PortForward("tcp", 2, "", 81)), Publish(3, PortForward("tcp", 2, "", 80)))
        answers = [await guest.hear(), await guest.hear()]
        assert [(one["id"], one["ok"], one["in_use"]) for one in answers] == [(2, False, True), (3, False, False)]
        assert answers[0]["error"] == "nginx (process 3) has it"
        guest.say(Unpublish(4, PortForward("tcp", 1, "", 8080)))
        assert (await guest.hear())["ok"]
        assert ports.bound == []
        guest.say(Sync(5, (PortForward("udp", 9, "127.0.0.1", 53),)))
        assert (await guest.hear())["ports"][0]["host_port"] == 53
        assert len(ports.bound) == 1

    linked(tmp_path, scenario)


def test_a_request_that_fails_as_none_should_is_refused_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        guest.say(Publish(1, PortForward("tcp", 1, "", 82)))
        answer = await guest.hear()
        assert (answer["id"], answer["ok"], answer["in_use"]) == (1, False, False)
        assert "too many open files" in answer["error"]

    linked(tmp_path, scenario)
    (record,) = caplog.records
    assert record.exc_info is not None


@pytest.mark.parametrize(
    "noise",
    [
        b"\xff\xff\xff\xff" + b"x" * 100,
        b"\0\0\0\x04null",
        struct.pack("!I", 50) + b"x" * 50,
        encode({"type": "hello", "version": 1, "unix_ns": 1}),
        encode({"type": "publish", "id": 1, "proto": "tcp", "guest_port": 80, "host_ip": "127.0.0.1 ; quit"}),
    ],
)
def test_nonsense_from_the_guest_ends_the_connection_until_an_engine_starts(
    tmp_path: Path, noise: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(guests: Guests, link: Link, ports: Ports) -> None:
        guest = await guests.next()
        await ready(guest, link)
        guest.writer.write(noise)
        guest.say(Publish(2, PortForward("tcp", 1, "", 8080)))  # nobody reads what comes after it
        assert await guest.reader.read() == b""
        assert not link.answering.is_set()
        link.shutdown(1)  # goes nowhere, and is no error
        link.changed(True)
        successor = await guests.next()
        assert (await successor.hear())["type"] == "hello"
        await ready(successor, link)
        assert ports.bound == []

    linked_again(tmp_path, scenario)
    assert len(caplog.records) == 1
    assert "link is closed until its engine starts again" in caplog.text


def test_a_connection_that_breaks_ends_the_engines_time_as_any_end_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        link = Link(lambda: ours, cast(Any, Ports()), BOOT)
        await link.open()
        link.changed(True)
        answers = (Ready(BOOT, "1.2.3", "1.51"), Sync(0, ()), Activity("idle"))
        theirs.sendall(b"".join(encode(answer.to_json()) for answer in answers))
        levels: asyncio.Queue[str] = asyncio.Queue()
        link.on_level = lambda: levels.put_nowait(link.level)
        async with asyncio.timeout(60):
            await link.ready.wait()
            while await levels.get() != "idle":
                pass
            theirs.close()  # with the greeting unread, which is told as ECONNRESET
            while await levels.get() != "busy":
                pass
        assert not link.ready.is_set()
        assert not link.answering.is_set()
        await link.close()

    asyncio.run(scenario())


def test_an_engine_that_breaks_the_protocol_again_and_again_is_come_to_more_and_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    sleep = asyncio.sleep

    async def wait(delay: float) -> None:
        if delay:
            waited.append(delay)
        await sleep(0)

    monkeypatch.setattr(module.asyncio, "sleep", wait)

    async def scenario() -> None:
        guests = Guests()
        server = await asyncio.start_unix_server(guests.take, tmp_path / "link")
        link = Link(partial(connect, tmp_path / "link", 5), cast(Any, Ports()), BOOT)
        link.keep()
        async with asyncio.timeout(60):
            for _ in range(3):
                (await guests.next()).writer.write(b"\0" * 64)
            guest = await guests.next()
            assert waited == [module.KEEP_S, 2 * module.KEEP_S, 4 * module.KEEP_S]
            await ready(guest, link)
            guest.writer.write(b"\0" * 64)
            guest = await guests.next()
            assert waited[3:] == [module.KEEP_S]
        await link.close()
        guests.close()
        server.close()

    asyncio.run(scenario())


def test_the_last_nonsense_of_an_engine_that_died_does_not_cost_its_successor_the_link(tmp_path: Path) -> None:
    async def scenario(guests: Guests, link: Link, ports: Ports) -> None:
        guest = await guests.next()
        guest.writer.write(b"\xff" * 100)
        await guest.writer.drain()
        link.changed(True)
        successor = await guests.next()
        assert (await successor.hear())["type"] == "hello"
        await ready(successor, link)

    linked_again(tmp_path, scenario)


@pytest.mark.parametrize("size", [10, 200_000])
def test_half_a_frame_of_an_engine_that_died_does_not_swallow_its_successors_words(tmp_path: Path, size: int) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        await ready(guest, link)
        guest.writer.write(encode({"type": "x", "pad": "a" * size})[:-5])
        await guest.writer.drain()
        link.changed(False)
        link.changed(True)
        assert (await guest.hear())["type"] == "hello"
        await ready(guest, link)

    linked(tmp_path, scenario)


def test_a_guest_that_asks_without_end_waits(tmp_path: Path) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        ports.gate.clear()
        for number in range(4 * MAX_WORK):
            guest.say(Publish(number, PortForward("tcp", 1)))
        await asyncio.sleep(0.2)
        most = ports.most
        ports.gate.set()
        answered = {(await guest.hear())["id"] for _ in range(4 * MAX_WORK)}
        assert answered == set(range(4 * MAX_WORK))
        # What one read brought is taken as a whole.
        assert most < 4 * MAX_WORK

    linked(tmp_path, scenario)


def test_a_shutdown_is_asked_for(tmp_path: Path) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        link.shutdown(7)
        assert await guest.hear() == {"type": "shutdown", "timeout_s": 7}
        await link.close()
        link.shutdown(7)  # a closed link takes it without an error

    linked(tmp_path, scenario)


def test_a_link_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        ports: Any = Ports()
        with pytest.raises(AgentError, match="link to the machine cannot be opened: No such file"):
            await Link(partial(connect, tmp_path / "nothing", 5), ports, BOOT).open()

    asyncio.run(scenario())


def test_each_engine_is_told_of_the_outside_and_of_what_changes(tmp_path: Path) -> None:
    async def scenario(guest: Guest, link: Link, ports: Ports) -> None:
        link.changed(True)
        assert "outside" not in await guest.hear()
        news = Outside("http://a:1")
        link.tell_outside(news)
        assert await guest.hear() == {"type": "outside", "outside": news.to_json()}
        link.tell_outside(news)  # nothing new
        link.changed(True)
        hello = await guest.hear()
        assert (hello["type"], hello["outside"]) == ("hello", news.to_json())

    linked(tmp_path, scenario)
