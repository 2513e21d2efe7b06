"""The engine's end of the link, against a host that connects, goes, comes again, and says what it should not."""

from __future__ import annotations

import asyncio
import contextlib
import termios
import time
from collections.abc import Awaitable, Callable

import pytest
from coved.link.client import LinkClient, LinkError
from coved.link.protocol import MAX_PORTS, Hello, News, PortForward, Reply, Shutdown, encode
from coved.outside import Outside
from virtio import HostEnd

PORT = PortForward("tcp", 49152, "127.0.0.1", 8080)


def hello() -> Hello:
    return Hello(1, time.time_ns())


def linked(scenario: Callable[[HostEnd, LinkClient], Awaitable[None]], *, ready: bool = True) -> None:
    async def run() -> None:
        host = HostEnd()
        client = LinkClient(host.path, "1.2.3", set_clock=False, boot_id="b" * 32)
        client.power_off = lambda: pytest.fail("nobody asked for that")
        await client.start()
        if ready:
            client.announce_ready()
        try:
            async with asyncio.timeout(60):
                await scenario(host, client)
        finally:
            await client.close()
            host.close()

    asyncio.run(run())


def test_a_hello_is_answered_with_the_boot_and_the_ports_that_live() -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        client.live_ports = lambda: [PORT]
        assert not client.connected
        host.send(hello())
        ready = await host.receive("ready")
        assert (ready["boot_id"], ready["engine_version"], ready["api_version"]) == ("b" * 32, "1.2.3", "1.51")
        sync = await host.receive("sync")
        assert sync["ports"] == [PORT.to_json()]
        assert client.connected

    linked(scenario)


def test_more_ports_than_the_host_takes_do_not_cost_the_link() -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        client.live_ports = lambda: [PORT] * (MAX_PORTS + 1)
        host.send(hello())
        assert (await host.receive("sync"))["ports"] == [PORT.to_json()] * MAX_PORTS

    linked(scenario)


def test_the_host_hears_of_readiness_when_it_is_announced() -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        host.send(hello())
        await host.receive("sync")
        await asyncio.sleep(0.05)
        assert host.nothing_waits()
        client.announce_ready()
        assert (await host.receive("ready"))["boot_id"] == "b" * 32

    linked(scenario, ready=False)


def test_what_the_engine_is_busy_with_is_pushed_and_told_again_to_each_host() -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        host.send(hello())
        await host.receive("sync")
        client.announce_activity("idle")
        assert (await host.receive("activity"))["level"] == "idle"
        client.announce_activity("busy")
        assert (await host.receive("activity"))["level"] == "busy"
        host.send(hello())
        await host.receive("sync")
        assert (await host.receive("activity"))["level"] == "busy"

    linked(scenario)


@pytest.mark.parametrize("verb", ["publish", "unpublish"])
def test_a_request_waits_for_its_own_answer(verb: str) -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        host.send(hello())
        ask = getattr(client, verb)
        asked = [asyncio.ensure_future(ask(PortForward("tcp", 49152 + number))) for number in range(3)]
        requests = [await host.receive(verb) for _ in range(3)]
        assert [one["guest_port"] for one in requests] == [49152, 49153, 49154]
        host.send(Reply(1 << 40, ok=False, error="nobody asked"))
        for number in (2, 0):  # in another order
            host.send(
                Reply(requests[number]["id"], ok=True, ports=(PortForward("tcp", 1, "127.0.0.1", 9000 + number),))
            )
        host.send(Reply(requests[1]["id"], ok=False, error="nginx (process 1) has it", in_use=True))
        answers = await asyncio.gather(*asked)
        assert [answer.ok for answer in answers] == [True, False, True]
        assert answers[2].ports[0].host_port == 9002
        assert (answers[1].in_use, answers[1].error) == (True, "nginx (process 1) has it")

    linked(scenario)


def test_a_request_waits_for_a_host_that_comes_later() -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        asked = asyncio.ensure_future(client.publish(PORT))
        await asyncio.sleep(0.05)
        assert host.nothing_waits()
        host.send(hello())
        request = await host.receive("publish")
        host.send(Reply(request["id"], ok=True, ports=(PORT,)))
        assert (await asked).ok

    linked(scenario)


def test_a_request_without_an_answer_ends_in_time_and_says_why() -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        with pytest.raises(LinkError, match=r"is not connected within 0.1 s.*cove machine status"):
            await client.publish(PORT, timeout_s=0.1)
        host.send(hello())
        await host.receive("ready")
        with pytest.raises(LinkError, match=r"did not answer within 0.1 s"):
            await client.publish(PORT, timeout_s=0.1)

    linked(scenario)


def test_a_request_is_asked_again_of_a_host_that_came_anew() -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        host.send(hello())
        asked = asyncio.ensure_future(client.publish(PORT))
        first = await host.receive("publish")
        host.send(hello())  # an agent that was killed leaves no other trace than its successor's hello
        await host.receive("ready")
        second = await host.receive("publish")
        assert second["id"] != first["id"]
        host.send(Reply(first["id"], ok=False, error="of another life"))
        host.send(Reply(second["id"], ok=True, ports=(PORT,)))
        assert (await asked).ok

    linked(scenario)


def test_a_host_that_goes_is_noticed() -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        host.send(hello())
        await host.receive("ready")
        asked = asyncio.ensure_future(client.publish(PORT, timeout_s=3))  # the host goes before that is over
        await host.receive("publish")
        host.close()
        with pytest.raises(LinkError, match="is not connected"):
            await asked
        assert not client.connected
        client.announce_stop()  # nobody hears it, and it is no error

    linked(scenario)


@pytest.mark.parametrize(
    "noise", [b"\0\0\0\0", b"\xff" * 64, b'\0\0\0\x10{"type":"nosuch"}', b"\0\0\0\x02{}", b"\0\0\0\x01["]
)
def test_after_nonsense_the_link_begins_anew(noise: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        host.send(hello())
        await host.receive("ready")
        close = client._port.close
        client._port.close = lambda: (close(), host.drop_unread())[0]  # type: ignore[method-assign]
        # What comes after it is read by nobody: neither what is no frame, nor what is. It is more than one read brings.
        host.send_bytes(noise + b"\0" * 9000 + encode(Shutdown(1).to_json()))
        while client.connected:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)  # it opens the port again, and what lay unread in it is gone
        host.send(hello())
        assert (await host.receive("ready"))["boot_id"] == "b" * 32
        assert client.connected

    linked(scenario)
    assert [record.getMessage()[:12] for record in caplog.records if record.name == "coved.link.client"] == [
        "link closed:"
    ]


async def stop_reading(host: HostEnd, client: LinkClient) -> None:
    """The host reads no more, and all waits for it that may: a terminal makes room a moment after it seemed full."""
    host.pause()
    written = -1
    while written:
        written = 0
        for size in (1 << 20, 1 << 10, 1):
            with contextlib.suppress(ConnectionError):
                while True:
                    client._port.write(b"x" * size)
                    written += size
        await asyncio.sleep(0.02)


def read_again(host: HostEnd) -> None:
    """As an agent does that is greeted anew: what came before is no part of the connection."""
    termios.tcflush(host._master, termios.TCIFLUSH)
    host._decoder.reset()
    host.listen()


@pytest.mark.timeout(20, method="signal")
def test_a_host_that_reads_nothing_for_long_has_gone(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        host.send(hello())
        await host.receive("ready")
        await stop_reading(host, client)
        asked = asyncio.ensure_future(client.publish(PORT))
        await asyncio.sleep(0.05)  # the loop goes on
        assert not client.connected
        read_again(host)
        host.send(hello())
        request = await host.receive("publish")
        host.send(Reply(request["id"], ok=True, ports=(PORT,)))
        assert (await asked).ok
        await stop_reading(host, client)
        client.announce_stop()
        assert not client.connected

    linked(scenario)
    assert caplog.text.count("link closed: the host does not read from") == 2
    assert "never retrieved" not in caplog.text


@pytest.mark.timeout(20, method="signal")
def test_a_hello_that_cannot_be_answered_leaves_a_link_that_can_be_greeted_again() -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        await stop_reading(host, client)
        host.send(hello())
        await asyncio.sleep(0.05)
        assert not client.connected
        read_again(host)
        host.send(hello())
        assert (await host.receive("ready"))["boot_id"] == "b" * 32
        assert client.connected

    linked(scenario)


def test_another_version_of_the_link_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        host.send(Hello(2, time.time_ns()))
        while "speaks version 2" not in caplog.text:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)
        assert not client.connected
        assert host.nothing_waits()

    linked(scenario)


def test_a_shutdown_stops_containers_and_then_powers_off_once() -> None:
    steps: list[str] = []

    async def scenario(host: HostEnd, client: LinkClient) -> None:
        off = asyncio.Event()

        async def stop(timeout_s: float) -> None:
            steps.append(f"stop in {timeout_s:g}")
            await asyncio.sleep(0.02)

        client.on_shutdown = stop
        client.power_off = lambda: (steps.append("off"), off.set())[0]
        host.send(hello())
        await host.receive("ready")
        host.send(Shutdown(7))
        host.send(Shutdown(7))
        await host.receive("stopping")
        await off.wait()
        await asyncio.sleep(0.05)

    linked(scenario)
    assert steps == ["stop in 7", "off"]


def test_the_machine_powers_off_even_when_containers_cannot_be_stopped() -> None:
    async def scenario(host: HostEnd, client: LinkClient) -> None:
        off = asyncio.Event()

        async def fail(_: float) -> None:
            raise RuntimeError("no")

        client.on_shutdown, client.power_off = fail, off.set
        host.send(hello())
        host.send(Shutdown(0))
        await off.wait()

    linked(scenario)


def test_the_engine_learns_of_the_outside_before_anybody_learns_that_it_is_ready() -> None:
    first, second = Outside("http://a:1", authorities="x" * 1000), Outside("http://b:2")

    async def scenario(host: HostEnd, client: LinkClient) -> None:
        told: list[Outside] = []
        connected: list[bool] = []

        def take(outside: Outside) -> None:
            told.append(outside)
            connected.append(client.connected)

        client.on_outside = take
        host.send(Hello(1, time.time_ns(), first))
        await host.receive("ready")
        assert (told, connected) == ([first], [False])
        host.send(News(second))
        host.send(hello())  # of a host that has nothing to say of it
        await host.receive("sync")
        await host.receive("sync")
        assert told == [first, second]

    linked(scenario)
