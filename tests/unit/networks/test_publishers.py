"""Who holds published ports: the host over the link, or this machine; and the texts of what they say."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from coved.link.client import LinkError
from coved.link.protocol import MAX_PORTS, PortForward, Reply
from coved.networks.firewall import PortRule
from coved.networks.model import PortRequest, PublishedPort
from coved.networks.publishers import GUEST_PORTS, LinkPublisher, LocalPublisher, PublishError


class Host:
    """The other end of the link: knows what is bound, and what is taken by others."""

    def __init__(self, taken: dict[int, str] | None = None) -> None:
        self.taken = taken or {}
        self.bound: dict[int, PortForward] = {}
        self.silent = False
        self.asked: list[int] = []
        self.slow: set[int] = set()
        self.released: list[int] = []
        self.kept: list[PortForward] = []
        self.told: Any = None

    async def publish(self, port: PortForward, *, keep: bool) -> Reply:
        self.asked.append(port.host_port)
        if port.host_port in self.slow:
            await asyncio.sleep(10)
        if self.silent:
            raise LinkError("the host is not connected within 10 s")
        number = port.host_port or 40000 + len(self.bound)
        if number == 80:
            return Reply(1, ok=False, error="listen tcp4 127.0.0.1:80: bind: permission denied")
        if number in self.taken and keep:
            self.kept.append(PortForward(port.proto, port.guest_port, port.host_ip or "127.0.0.1", number))
            self.told(self.kept)
            return Reply(1, ok=True, ports=(self.kept[-1],))
        if number in self.taken or number in self.bound:
            return Reply(1, ok=False, error=self.taken.get(number, ""), in_use=True)
        self.bound[number] = port
        return Reply(1, ok=True, ports=(PortForward(port.proto, port.guest_port, port.host_ip or "127.0.0.1", number),))

    async def unpublish(self, port: PortForward) -> Reply:
        if self.silent:
            raise LinkError("the host is not connected within 10 s")
        self.released.append(port.host_port)
        self.bound.pop(port.host_port, None)
        return Reply(1, ok=True, ports=(port,))


def request(port: int, host_port: int = 0, end: int = 0) -> PortRequest:
    return PortRequest("tcp", port, "", host_port, end)


def test_the_host_says_what_it_bound_and_the_rule_leads_there() -> None:
    host = Host()
    publisher = LinkPublisher(host)
    first, second = asyncio.run(publisher.publish([request(80, 8080), request(443)]))
    assert (first.host_ip, first.host_port, first.container_port) == ("127.0.0.1", 8080, 80)
    assert second.host_port >= 40000
    assert {first.guest_port, second.guest_port} <= set(GUEST_PORTS)
    assert publisher.rules_for(first, "172.17.0.2") == [
        PortRule("tcp", "", first.guest_port, "172.17.0.2", 80),
        PortRule("tcp", "", 8080, "172.17.0.2", 80, known=True),
    ]
    assert {port.host_port for port in publisher.live_ports()} == {8080, second.host_port}
    asyncio.run(publisher.unpublish([first, second]))
    assert [*publisher.live_ports()] == []
    assert host.bound == {}


def test_what_is_asked_for_at_no_address_or_at_all_is_reached_from_inside() -> None:
    """By the number that people know, which only one port has there."""
    host = Host()
    publisher = LinkPublisher(host)

    def published(address: str) -> PublishedPort:
        host.bound.clear()  # each is bound, by a host that has many addresses
        (port,) = asyncio.run(publisher.publish([PortRequest("udp", 5353, address, 53)]))
        return port

    for address, known in (
        ("192.0.2.7", []),
        ("::", []),
        ("127.0.0.1", [PortRule("udp", "127.0.0.1", 53, "172.17.0.2", 5353, known=True)]),
        ("0.0.0.0", [PortRule("udp", "", 53, "172.17.0.2", 5353, known=True)]),
    ):
        port = published(address)
        assert publisher.rules_for(port, "172.17.0.2")[1:] == known
    assert not published("").inside
    asyncio.run(publisher.unpublish([port]))
    assert publisher.rules_for(published(""), "172.17.0.2")[1:] == known


def test_what_the_host_keeps_is_lost_and_nobody_elses_until_it_is_back() -> None:
    host = Host({8080: "nginx (process 3) has it"})
    publisher = LinkPublisher(host)
    host.told = publisher.set_lost
    told: list[tuple[PublishedPort, bool]] = []
    publisher.on_lost = lambda port, lost: told.append((port, lost))
    publisher.owner = lambda port: "web"
    with pytest.raises(PublishError, match="address already in use"):
        asyncio.run(publisher.publish([request(80, 8080)]))
    lost, bound = asyncio.run(publisher.publish([request(80, 8080), request(443, 8443)], keep=True))
    assert publisher.lost == {lost}
    assert (lost.host_ip, lost.host_port) == ("127.0.0.1", 8080)
    assert {port.host_port for port in publisher.live_ports()} == {8080, 8443}
    for keep in (False, True):
        with pytest.raises(PublishError, match=r"8080 failed: port is already allocated \(container web has it\)"):
            asyncio.run(publisher.publish([request(81, 8080)], keep=keep))
    ranged = asyncio.run(publisher.publish([request(82, 8080, 8081)], keep=True))
    assert ranged[0].host_port == 8081
    publisher.set_lost([])
    assert (publisher.lost, told) == (set(), [(lost, False)])
    host.kept.clear()
    publisher.set_lost([PortForward("tcp", lost.guest_port, "127.0.0.1", 8080)])
    asyncio.run(publisher.unpublish([lost, bound]))
    assert publisher.lost == set()


def test_what_the_host_has_lost_is_known_until_it_is_back() -> None:
    publisher = LinkPublisher(Host())
    told: list[tuple[PublishedPort, bool]] = []
    publisher.on_lost = lambda port, lost: told.append((port, lost))
    first, second = asyncio.run(publisher.publish([request(80, 8080), request(443, 8443)]))
    forwards = {port.guest_port: port for port in publisher.live_ports()}
    publisher.set_lost([forwards[first.guest_port], PortForward("tcp", 1, "127.0.0.1", 9)])
    publisher.set_lost([forwards[first.guest_port]])
    assert (publisher.lost, told) == ({first}, [(first, True)])
    publisher.set_lost([forwards[second.guest_port]])
    assert {*told[1:]} == {(first, False), (second, True)}
    asyncio.run(publisher.unpublish([second]))
    assert publisher.lost == set()
    publisher.set_lost([])
    assert len(told) == 3


def test_all_or_none() -> None:
    host = Host({8081: "nginx (process 7) has it"})
    publisher = LinkPublisher(host)
    with pytest.raises(PublishError) as error:
        asyncio.run(publisher.publish([request(80, 8080), request(81, 8081), request(82)]))
    assert str(error.value) == "listen tcp4 127.0.0.1:8081: bind: address already in use (nginx (process 7) has it)"
    assert host.bound == {}
    assert [*publisher.live_ports()] == []


def test_docker_text_alone_when_nobody_knows_who_has_it() -> None:
    with pytest.raises(PublishError) as error:
        asyncio.run(LinkPublisher(Host({8081: ""})).publish([request(81, 8081)]))
    assert str(error.value) == "listen tcp4 127.0.0.1:8081: bind: address already in use"


def test_the_container_that_has_a_port_is_named() -> None:
    publisher = LinkPublisher(Host())
    publisher.owner = lambda port: f"web{port.host_port}"

    async def scenario() -> None:
        await publisher.publish([request(80, 8080)])
        with pytest.raises(PublishError) as error:
            await publisher.publish([request(81, 8080)])
        assert (
            str(error.value) == "Bind for 127.0.0.1:8080 failed: port is already allocated (container web8080 has it)"
        )

    asyncio.run(scenario())


def test_another_refusal_is_told_in_its_own_words() -> None:
    with pytest.raises(PublishError, match=r"^listen tcp4 127.0.0.1:80: bind: permission denied$"):
        asyncio.run(LinkPublisher(Host()).publish([request(80, 80)]))


def test_the_first_free_port_of_a_range_is_taken() -> None:
    publisher = LinkPublisher(Host({8000: "a", 8001: "b"}))
    (port,) = asyncio.run(publisher.publish([request(80, 8000, 8003)]))
    assert port.host_port == 8002
    with pytest.raises(PublishError) as error:
        asyncio.run(LinkPublisher(Host(dict.fromkeys(range(8000, 8004), "x"))).publish([request(80, 8000, 8003)]))
    assert str(error.value) == "Bind for 127.0.0.1:8000-8003 failed: port is already allocated"


def test_a_host_that_is_away_fails_the_publish_and_lets_the_unpublish_pass() -> None:
    host = Host()
    publisher = LinkPublisher(host)

    async def scenario() -> None:
        (port,) = await publisher.publish([request(80, 8080)])
        host.silent = True
        with pytest.raises(LinkError):
            await publisher.publish([request(81, 8081)])
        await publisher.unpublish([port])
        # The sync of the host's next connection takes it back, for it lives no longer.
        assert [*publisher.live_ports()] == []

    asyncio.run(scenario())


def test_a_publish_that_is_cancelled_is_withdrawn() -> None:
    host = Host()
    host.slow = {8081}
    publisher = LinkPublisher(host)

    async def scenario() -> None:
        task = asyncio.ensure_future(publisher.publish([request(80, 8080), request(81, 8081)]))
        while 8081 not in host.asked:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while len(host.released) < 2:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        assert sorted(host.released) == [8080, 8081]  # the one that was bound, and the one that may be
        assert host.bound == {}
        assert [*publisher.live_ports()] == []

    asyncio.run(scenario())


def test_a_guest_port_is_used_again_as_late_as_can_be() -> None:
    publisher = LinkPublisher(Host())

    async def scenario() -> list[int]:
        used = []
        for _ in range(4):
            (port,) = await publisher.publish([request(80, 8080)])
            used.append(port.guest_port)
            await publisher.unpublish([port])
        return used

    assert len(set(asyncio.run(scenario()))) == 4


def test_ports_of_an_earlier_engine_stay_live_and_their_guest_ports_taken() -> None:
    publisher = LinkPublisher(Host())
    old = PublishedPort("tcp", 80, "127.0.0.1", 8080, GUEST_PORTS[0])
    publisher.adopt([old])
    assert [port.host_port for port in publisher.live_ports()] == [8080]
    (new,) = asyncio.run(publisher.publish([request(81, 8081)]))
    assert new.guest_port != old.guest_port


def test_no_more_ports_are_published_than_one_message_carries() -> None:
    publisher = LinkPublisher(Host())
    numbers = range(1000, 1000 + MAX_PORTS)

    async def scenario() -> None:
        first, *_ = await publisher.publish([request(80, number) for number in numbers])
        with pytest.raises(PublishError) as error:
            await publisher.publish([request(80, 9000)])
        assert str(error.value) == "4096 ports are published, and a machine can have no more"
        assert len([*publisher.live_ports()]) == MAX_PORTS
        await publisher.unpublish([first])
        with pytest.raises(PublishError):
            await publisher.publish([request(80, 9000), request(80, 9001)])  # one more than there is room for
        await publisher.publish([request(80, 9000)])
        assert len([*publisher.live_ports()]) == MAX_PORTS

    asyncio.run(scenario())


def refused(kind: int, address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return True
    return False


@pytest.mark.parametrize(("proto", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
def test_without_a_vm_a_socket_holds_the_port(proto: Any, kind: int) -> None:
    publisher = LocalPublisher()
    (port,) = asyncio.run(publisher.publish([PortRequest(proto, 80)]))
    assert port.host_ip == "127.0.0.1"
    assert refused(kind, "127.0.0.1", port.host_port)
    with pytest.raises(PublishError, match=f"Bind for 127.0.0.1:{port.host_port} failed: port is already allocated"):
        asyncio.run(publisher.publish([PortRequest(proto, 80, "", port.host_port)]))
    asyncio.run(publisher.unpublish([port]))
    asyncio.run(publisher.unpublish([port]))
    assert not refused(kind, "127.0.0.1", port.host_port)
    publisher.close()


def test_who_connects_before_there_is_a_rule_is_reset_and_does_not_wait() -> None:
    async def scenario() -> None:
        publisher, writers = LocalPublisher(), []
        (port,) = await publisher.publish([PortRequest("tcp", 80)])
        for _ in range(300):
            with pytest.raises(ConnectionResetError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port.host_port)
                writers.append(writer)
                await asyncio.wait_for(reader.read(), 30)
        for writer in writers:
            writer.close()
        # A relay has them for itself.
        with publisher.listener(port) as relay:
            reader, writer = await asyncio.open_connection("127.0.0.1", port.host_port)
            client, _ = await asyncio.get_running_loop().sock_accept(relay)
            client.send(b"relayed")
            client.close()
            assert await asyncio.wait_for(reader.read(), 30) == b"relayed"
            writer.close()
        publisher.close()

    asyncio.run(scenario())


def test_without_a_vm_too_a_port_that_somebody_has_taken_is_lost() -> None:
    async def scenario() -> None:
        publisher, told = LocalPublisher(), []
        publisher.on_lost = lambda port, lost: told.append((port, lost))
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = PublishedPort("tcp", 80, "127.0.0.1", other.getsockname()[1])
            publisher.adopt([taken])
        assert (publisher.lost, told) == ({taken}, [(taken, True)])
        await publisher.unpublish([taken])
        assert publisher.lost == set()

    asyncio.run(scenario())


def test_without_a_vm_too_it_is_all_or_none() -> None:
    publisher = LocalPublisher()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(PublishError):
            asyncio.run(publisher.publish([request(80), request(81, taken)]))
    assert publisher._sockets == {}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("::1", "IPv4 addresses only"),
        ("localhost", "is not an IP address"),
        ("192.0.2.1", "listen tcp 192.0.2.1:8080: Cannot assign"),
    ],
)
def test_an_address_that_cannot_be_bound_is_refused(address: str, said: str) -> None:
    with pytest.raises(PublishError, match=said):
        asyncio.run(LocalPublisher().publish([PortRequest("tcp", 80, address, 8080)]))


def test_all_addresses_are_no_address_in_the_rule() -> None:
    publisher = LocalPublisher()
    assert publisher.rules_for(PublishedPort("tcp", 80, "0.0.0.0", 8080), "172.17.0.2")[0].address == ""
    assert publisher.rules_for(PublishedPort("tcp", 80, "127.0.0.1", 8080), "172.17.0.2")[0].address == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("[127.0.0.1]", "[127.0.0.1] is not an IP address"),
        ("localhost", "localhost is not an IP address"),
        ("[fe80::1%eth0]", "[fe80::1%eth0] is not an IP address"),
    ],
)
def test_no_host_is_asked_for_what_is_no_address(address: str, said: str) -> None:
    host = Host()
    for publisher in (LinkPublisher(host), LocalPublisher()):
        with pytest.raises(PublishError) as error:
            asyncio.run(publisher.publish([PortRequest("tcp", 80, address, 8080)]))
        assert str(error.value) == said
    assert host.asked == []


def test_the_host_is_asked_for_ipv6_as_for_ipv4() -> None:
    (port,) = asyncio.run(LinkPublisher(Host()).publish([PortRequest("tcp", 80, "[::1]", 8080)]))
    assert port.host_ip == "::1"
    with pytest.raises(PublishError, match="IPv4 addresses only"):
        asyncio.run(LocalPublisher().publish([PortRequest("tcp", 80, "::1", 8080)]))
