"""Bridges, namespaces and packet rules in the real kernel, in a network namespace of the tests' own; packets do flow."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import ipaddress
import os
import re
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from coved.errors import EngineError
from coved.networks import namespaces
from coved.networks.datapath import Datapath
from coved.networks.definition import Network
from coved.networks.endpoints import gateways
from coved.networks.firewall import PortRule
from coved.networks.model import Endpoint
from coved.networks.nftables import FirewallError, Nftables
from coved.networks.rtnetlink import LOOPBACK_INDEX, Netlink, NetlinkError, add_bridge, delete_link, set_up
from coved.networks.subdevices import GONE
from open_descriptors import open_descriptors

pytestmark = pytest.mark.root

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def network(number: int, **more: Any) -> Network:
    subnet = f"10.20{number}.0.0/24"
    return Network(
        f"{number}" * 64, f"net{number}", "bridge", number, f"tb{number}", subnet, f"10.20{number}.0.1", **more
    )


def endpoint(net: Network, last: int, interface: str = "eth0", name: str = "") -> Endpoint:
    prefix = net.subnet.rpartition(".")[0]
    return Endpoint(
        net.id, net.name, "e" * 64, interface, name or f"v{net.bridge}{last}", f"{prefix}.{last}", 24,
        "" if net.internal else net.gateway, f"02:42:0a:00:{net.id[0]}0:{last:02x}",
    )  # fmt: skip


def opened(lab: Lab, datapath: Datapath, container_id: str, endpoints: Any, ports: Any) -> Path:
    return lab.run(datapath.open, container_id, endpoints, gateways([one for _, one in endpoints]), ports)


class Lab:
    """A thread in a network namespace of its own: the machine, as far as the datapath can see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._open: list[Datapath] = []
        self.run(self._enter)

    def _enter(self) -> None:
        if _libc.unshare(0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "these tests need root, for network namespaces")
        with Netlink() as netlink:
            netlink.run([set_up(LOOPBACK_INDEX)])
        # The VM does not load br_netfilter; a kernel that has it would translate what stays inside a bridge as well.
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("0")

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        return self._thread.submit(function, *arguments).result(20)

    def datapath(self, uplink: str = "", *, beside: bool = False) -> Datapath:
        made = self.run(Datapath, self.folder / "netns", "cove-test", uplink, beside)
        self._open.append(made)
        return made

    def shell(self, command: str) -> str:
        """What a command says in this machine."""
        done = self.run(lambda: subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20))
        return done.stdout + done.stderr

    def close(self) -> None:
        for datapath in self._open:
            self.run(datapath.close)
        for path in (self.folder / "netns").glob("*"):
            namespaces.remove(path)
        self._thread.shutdown()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def within(path: Path, function: Callable[[], T]) -> T:
    """Run `function` in the namespace that is mounted on `path`."""

    def visit() -> T:
        with path.open("rb") as file:
            if _libc.setns(file.fileno(), 0x40000000) != 0:
                raise OSError(ctypes.get_errno(), f"setns {path}")
        return function()

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(visit).result(20)


def said_in(path: Path, command: str) -> str:
    return within(
        path, lambda: subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20).stdout
    )


def own_namespace() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


@contextlib.contextmanager
def tcp_server(path: Path, port: int, answer: bytes) -> Iterator[None]:
    """Answers in a namespace with `answer` and the address that the client seems to have."""
    listener = within(path, lambda: socket.create_server(("0.0.0.0", port)))

    def serve() -> None:
        while True:
            try:
                client, peer = listener.accept()
            except OSError:
                return
            with client:
                client.sendall(answer + b" " + peer[0].encode())

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def fetch(address: str, port: int, timeout_s: float = 3) -> str:
    """The answer of a TCP server; "" when none comes."""
    try:
        with socket.create_connection((address, port), timeout_s) as client:
            return client.recv(100).decode()
    except OSError:
        return ""


def test_a_sandbox_has_its_address_and_its_way_out(lab: Lab) -> None:
    net = network(1)
    datapath = lab.datapath()
    lab.run(datapath.start, [net], {}, [])
    path = opened(lab, datapath, "c1", [(net, endpoint(net, 2))], [])
    assert lab.run(datapath.has_namespace, "c1")
    addresses = said_in(path, "ip -o -4 addr show")
    assert "lo    inet 127.0.0.1/8" in addresses
    assert "eth0    inet 10.201.0.2/24" in addresses
    assert said_in(path, "ip route show default").startswith("default via 10.201.0.1 dev eth0")
    assert "02:42:0a:00:10:02" in said_in(path, "ip link show eth0")
    assert said_in(path, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").strip() == "0"
    with tcp_server(path, 80, b"hello"):
        assert lab.run(fetch, "10.201.0.2", 80) == "hello 10.201.0.1"


def test_a_namespace_that_was_made_ahead_is_as_good_and_used_once(lab: Lab) -> None:
    net = network(1)
    datapath = lab.datapath()
    lab.run(datapath.start, [net], {}, [])
    descriptors = open_descriptors()
    lab.run(datapath.prepare)
    lab.run(datapath.prepare)  # one is enough
    assert open_descriptors() == descriptors + 3  # itself, a socket and a switch in it
    assert datapath._spare is not None
    made = os.fstat(datapath._spare.fd).st_ino
    alone = opened(lab, datapath, "none", [], [])
    first = opened(lab, datapath, "c1", [(net, endpoint(net, 2))], [])
    second = opened(lab, datapath, "c2", [(net, endpoint(net, 3))], [])
    assert first.stat().st_ino == made
    assert len({path.stat().st_ino for path in (alone, first, second)}) == 3
    assert open_descriptors() == descriptors
    with tcp_server(first, 80, b"first"):
        assert within(second, lambda: fetch("10.201.0.2", 80)) == "first 10.201.0.3"
    for path in (alone, first):
        assert "lo    inet 127.0.0.1/8" in said_in(path, "ip -o -4 addr show")
        assert said_in(path, "cat /proc/sys/net/ipv6/conf/default/disable_ipv6").strip() in ("0", "")
    assert said_in(first, "cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6").strip() in ("1", "")


def test_containers_of_one_network_see_each_other_and_of_another_not(lab: Lab) -> None:
    one, two = network(1), network(2)
    datapath = lab.datapath()
    lab.run(datapath.start, [one, two], {}, [])
    first = opened(lab, datapath, "c1", [(one, endpoint(one, 2))], [])
    second = opened(lab, datapath, "c2", [(one, endpoint(one, 3))], [])
    third = opened(lab, datapath, "c3", [(two, endpoint(two, 2))], [])
    with tcp_server(first, 80, b"first"):
        assert within(second, lambda: fetch("10.201.0.2", 80)) == "first 10.201.0.3"
        assert within(third, lambda: fetch("10.201.0.2", 80, 0.5)) == ""


@pytest.mark.parametrize("address", ["", "127.0.0.1"])
def test_a_published_port_leads_in_from_the_machine_and_from_the_container_itself(lab: Lab, address: str) -> None:
    net = network(1)
    datapath = lab.datapath()
    lab.run(datapath.start, [net], {}, [])
    rule = PortRule("tcp", address, 8080, "10.201.0.2", 80)
    path = opened(lab, datapath, "c1", [(net, endpoint(net, 2))], [rule])
    with tcp_server(path, 80, b"page"):
        assert lab.run(fetch, "127.0.0.1", 8080) == "page 10.201.0.1"
        assert lab.run(fetch, "10.201.0.1", 8080, 0.5) == ("" if address else "page 10.201.0.1")
        if not address:  # hairpin: out to the machine's address and back in
            assert within(path, lambda: fetch("10.201.0.1", 8080)).startswith("page")
        lab.run(datapath.remove_ports, [rule])
        assert lab.run(fetch, "127.0.0.1", 8080, 0.5) == ""
        lab.run(datapath.add_ports, [rule])
        assert lab.run(fetch, "127.0.0.1", 8080) == "page 10.201.0.1"


@contextlib.contextmanager
def neighbour(lab: Lab, device: str, number: int) -> Iterator[Path]:
    """A machine on a link of the lab's: 192.0.<number>.2, and the lab is 192.0.<number>.1 to it."""
    path = lab.folder / device
    made = lab.run(namespaces.create)
    lab.run(namespaces.mount, made, path)
    script = f"ip link add {device} type veth peer name far netns /proc/{os.getpid()}/fd/{made.fd}"
    for said in (
        lab.shell(f"{script}; ip addr add 192.0.{number}.1/24 dev {device}; ip link set {device} up"),
        said_in(path, f"ip addr add 192.0.{number}.2/24 dev far; ip link set far up"),
        said_in(path, f"ip route add default via 192.0.{number}.1"),
    ):
        assert said == ""
    try:
        yield path
    finally:
        made.close()
        namespaces.remove(path)


def test_where_ports_come_in_by_one_device_no_other_network_reaches_them(lab: Lab) -> None:
    """They may be for the computer's localhost alone."""
    one, two = network(1), network(2)
    with neighbour(lab, "up0", 2) as outside:
        datapath = lab.datapath("up0")
        lab.run(datapath.start, [one, two], {}, [])
        rule = PortRule("tcp", "", 8080, "10.201.0.2", 80)
        path = opened(lab, datapath, "c1", [(one, endpoint(one, 2))], [rule])
        other = opened(lab, datapath, "c2", [(two, endpoint(two, 2))], [])
        with tcp_server(path, 80, b"page"):
            assert within(outside, lambda: fetch("192.0.2.1", 8080)) == "page 192.0.2.2"
            for address in ("10.202.0.1", "10.201.0.1", "192.0.2.1"):
                assert within(other, lambda to=address: fetch(to, 8080, 0.5)) == ""  # type: ignore[misc]
            assert within(path, lambda: fetch("10.201.0.1", 8080, 0.5)) == ""


def test_of_a_machine_that_others_use_as_well_root_alone_comes_to_containers(lab: Lab) -> None:
    one = network(1)
    datapath = lab.datapath(beside=True)
    lab.run(datapath.start, [one], {}, [])
    path = opened(lab, datapath, "c1", [(one, endpoint(one, 2))], [])
    other = opened(lab, datapath, "c2", [(one, endpoint(one, 3))], [])

    def as_nobody(function: Callable[..., T], *arguments: Any) -> T:
        _libc.setfsuid(65534)  # of this thread alone; a socket is of who makes it
        try:
            return function(*arguments)
        finally:
            _libc.setfsuid(0)

    with tcp_server(path, 80, b"page"):
        assert lab.run(fetch, "10.201.0.2", 80, 15).startswith("page")
        assert lab.run(as_nobody, fetch, "10.201.0.2", 80, 0.5) == ""
        assert within(other, lambda: as_nobody(fetch, "10.201.0.2", 80, 15)).startswith("page"), (
            "what is inside is no user's"
        )
    with lab.run(as_nobody, socket.create_server, ("0.0.0.0", 8081)):  # what containers have asked is answered
        within(other, lambda: socket.create_connection(("10.201.0.1", 8081), 15).close())


def test_what_is_bound_for_all_is_reached_from_inside_as_people_know_it(lab: Lab) -> None:
    """At any address of the machine, by other networks, by its own, by itself, and by containers with the machine's network."""
    one, two, shut = network(1), network(2), network(3, internal=True)
    with neighbour(lab, "up0", 2) as outside:
        datapath = lab.datapath("up0")
        lab.run(datapath.start, [one, two, shut], {}, [])
        rules = [
            PortRule("tcp", "", 49152, "10.201.0.2", 80),
            PortRule("tcp", "", 8111, "10.201.0.2", 80, known=True),
            PortRule("tcp", "127.0.0.1", 8112, "10.201.0.2", 80, known=True),
            PortRule("udp", "", 8111, "10.201.0.2", 53, known=True),
        ]
        path = opened(lab, datapath, "c1", [(one, endpoint(one, 2))], rules)
        beside = opened(lab, datapath, "c2", [(one, endpoint(one, 3))], [])
        other = opened(lab, datapath, "c3", [(two, endpoint(two, 2))], [])
        closed = opened(lab, datapath, "c4", [(shut, endpoint(shut, 2))], [])
        with tcp_server(path, 80, b"page"):
            for address in ("10.201.0.1", "10.202.0.1", "192.0.2.1"):
                assert within(other, lambda to=address: fetch(to, 8111)) == "page 10.202.0.2"  # type: ignore[misc]
                assert within(other, lambda to=address: fetch(to, 8112, 0.3)) == ""  # type: ignore[misc]
                for there in (path, beside):
                    assert within(there, lambda to=address: fetch(to, 8111)).startswith("page")  # type: ignore[misc]
                assert lab.run(fetch, address, 8111).startswith("page")
            assert within(closed, lambda: fetch("10.203.0.1", 8111, 0.3)) == ""
            assert lab.run(fetch, "127.0.0.1", 8111).startswith("page")
            assert lab.run(fetch, "127.0.0.1", 8112).startswith("page")
            assert lab.run(fetch, "10.201.0.1", 8112, 0.3) == ""
            assert within(outside, lambda: fetch("192.0.2.1", 49152)) == "page 192.0.2.2"
            for number in (8111, 8112):
                assert within(outside, lambda port=number: fetch("192.0.2.1", port, 0.3)) == ""  # type: ignore[misc]
            server = within(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            server.bind(("", 53))
            with server, within(other, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
                client.settimeout(30)
                server.settimeout(30)
                client.connect(("10.202.0.1", 8111))
                client.send(b"?")
                server.sendto(b"!", server.recvfrom(9)[1])
                assert client.recv(9) == b"!"
            lab.run(datapath.remove_ports, rules)
            assert within(other, lambda: fetch("10.202.0.1", 8111, 0.3)) == ""


def test_nothing_leaves_with_a_containers_own_address(lab: Lab) -> None:
    """What connection tracking does not know it cannot translate: here, the reset of a connection that there is not."""
    net = network(1)
    with neighbour(lab, "up0", 2) as outside:
        datapath = lab.datapath()
        lab.run(datapath.start, [net], {}, [])
        path = opened(lab, datapath, "c1", [(net, endpoint(net, 2))], [])

        def heard() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
            made.bind(("far", 0x0800))
            made.settimeout(30)
            return made

        def say() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
                segment = struct.pack("!HHIIBBHHH", 40000, 80, 1, 0, 5 << 4, 4, 0, 0, 0)  # RST
                pseudo = socket.inet_aton("10.201.0.2") + socket.inet_aton("192.0.2.2") + struct.pack("!HH", 6, 20)
                total = sum(struct.unpack("!16H", pseudo + segment))
                total = (total & 0xFFFF) + (total >> 16)
                checksum = ~(total + (total >> 16)) & 0xFFFF
                raw.sendto(segment[:16] + struct.pack("!H", checksum) + segment[18:], ("192.0.2.2", 0))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
                datagrams.sendto(b"after it", ("192.0.2.2", 9))

        with within(outside, heard) as listening:
            within(path, say)
            packet = listening.recv(2000)
            assert (socket.inet_ntoa(packet[12:16]), packet[28:]) == ("192.0.2.1", b"after it")


@pytest.mark.parametrize("was_router", [False, True])
def test_the_machine_does_not_become_a_router_for_its_neighbours(lab: Lab, was_router: bool) -> None:
    lab.shell(f"sysctl -w net.ipv4.ip_forward={int(was_router)}")
    net = network(1, options={"com.docker.network.bridge.gateway_mode_ipv4": "nat-unprotected"})
    with neighbour(lab, "near0", 2) as left, neighbour(lab, "near1", 3) as right:
        for _ in range(2):  # the next engine finds a router
            datapath = lab.datapath()
            lab.run(datapath.start, [net], {}, [])
            path = opened(lab, datapath, "c1", [(net, endpoint(net, 2))], [])
            with tcp_server(right, 80, b"right"), tcp_server(path, 80, b"inside"):
                assert within(left, lambda: fetch("192.0.3.2", 80, 3 if was_router else 0.5)) == (
                    "right 192.0.2.2" if was_router else ""
                )
                assert within(left, lambda: fetch("10.201.0.2", 80)) == "inside 192.0.2.2"
                assert within(path, lambda: fetch("192.0.3.2", 80)) == "right 192.0.3.1"


def test_the_machine_does_not_become_a_router_of_ipv6_either(lab: Lab) -> None:
    datapath = lab.datapath()
    lab.run(datapath.start, [network(1)], {}, [])
    show = "cat /proc/sys/net/ipv6/conf/all/forwarding"
    assert lab.shell(show) == "0\n"
    lab.run(datapath.add_network, network(2, ipv6=True, subnet6="fd00:2::/64", gateway6="fd00:2::1"))
    assert lab.shell(show) == "1\n"
    addresses = (("near0", "fd00:7::"), ("near1", "fd00:8::"))
    with neighbour(lab, "near0", 2) as left, neighbour(lab, "near1", 3) as right:
        for (device, prefix), there in zip(addresses, (left, right), strict=True):
            lab.shell(f"ip addr add {prefix}1/64 dev {device} nodad")
            said_in(there, "echo 0 > /proc/sys/net/ipv6/conf/far/disable_ipv6")
            said_in(there, f"ip addr add {prefix}2/64 dev far nodad; ip -6 route add default via {prefix}1")
        servers = [within(right, lambda: socket.create_server(("::", 80), family=socket.AF_INET6))]
        servers.append(lab.run(lambda: socket.create_server(("::", 80), family=socket.AF_INET6)))
        assert within(left, lambda: connects("fd00:7::1"))
        assert within(left, lambda: connects("fd00:2::1"))
        assert lab.run(connects, "fd00:8::2")
        assert not within(left, lambda: connects("fd00:8::2"))
        for server in servers:
            server.close()


def connects(address: str) -> bool:
    try:
        with socket.create_connection((address, 80), 1):
            return True
    except OSError:
        return False


def test_datagrams_that_keep_coming_find_the_container_that_has_the_port_now(lab: Lab) -> None:
    net = network(1)
    datapath = lab.datapath()
    lab.run(datapath.start, [net], {}, [])
    rules = [PortRule("udp", "", 8053, f"10.201.0.{last}", 53) for last in (2, 3)]
    client = lab.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(30)

    def send() -> None:
        with contextlib.suppress(ConnectionRefusedError):  # it is told so of the one before
            client.sendto(b"?", ("127.0.0.1", 8053))

    def heard(server: socket.socket) -> bool:
        send()
        server.settimeout(30)
        try:
            return server.recv(9) == b"?"
        except TimeoutError:
            return False

    add = datapath._rules.add_ports

    def interrupted(ports: Any) -> None:
        send()  # a datagram comes in the middle of it
        add(ports)

    datapath._rules.add_ports = interrupted  # type: ignore[method-assign]
    with client, contextlib.ExitStack() as stack:
        servers = []
        for last in (2, 3):
            path = opened(lab, datapath, f"c{last}", [(net, endpoint(net, last))], rules[:1] if last == 2 else [])
            servers.append(stack.enter_context(within(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))))
            servers[-1].bind(("0.0.0.0", 53))
        assert heard(servers[0])
        lab.run(datapath.remove_ports, rules[:1])
        send()
        lab.run(datapath.add_ports, rules[1:])
        assert heard(servers[1])
        lab.run(datapath.remove_ports, rules[1:])
        servers[1].settimeout(0.2)
        send()
        with pytest.raises(TimeoutError):
            servers[1].recv(9)


def test_containers_cannot_reach_the_machines_loopback(lab: Lab) -> None:
    net = network(1)
    datapath = lab.datapath()
    lab.run(datapath.start, [net], {}, [])
    path = opened(lab, datapath, "c1", [(net, endpoint(net, 2))], [])
    listener = lab.run(socket.create_server, ("127.0.0.1", 9999))
    with listener:
        # route_localnet is on for the bridge; a packet made for it must still be dropped.
        said_in(
            path,
            "ip route add 127.0.0.2/32 via 10.201.0.1 dev eth0; echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet",
        )
        listener.settimeout(0.5)
        within(path, lambda: fetch("127.0.0.2", 9999, 0.3))
        with pytest.raises(TimeoutError):
            listener.accept()


def test_an_internal_network_has_no_way_out_and_no_way_in(lab: Lab) -> None:
    inner, outer = network(1, internal=True), network(2)
    datapath = lab.datapath()
    lab.run(datapath.start, [inner, outer], {}, [])
    first = opened(lab, datapath, "c1", [(inner, endpoint(inner, 2))], [])
    second = opened(lab, datapath, "c2", [(inner, endpoint(inner, 3))], [])
    assert said_in(first, "ip route show default") == ""
    third = opened(lab, datapath, "c3", [(outer, endpoint(outer, 2))], [])
    with tcp_server(first, 80, b"inside"), tcp_server(third, 80, b"outside"):
        assert within(second, lambda: fetch("10.201.0.2", 80)).startswith("inside")
        said_in(first, "ip route add default via 10.201.0.1")  # however it tries
        assert within(first, lambda: fetch("10.202.0.2", 80, 0.5)) == ""
        assert within(third, lambda: fetch("10.201.0.2", 80, 0.5)) == ""


def test_a_second_network_comes_and_goes_while_the_container_runs(lab: Lab) -> None:
    one, two = network(1), network(2)
    datapath = lab.datapath()
    lab.run(datapath.start, [one], {}, [])
    path = opened(lab, datapath, "c1", [(one, endpoint(one, 2))], [])
    lab.run(datapath.add_network, two)
    second = endpoint(two, 2, "eth1")
    lab.run(datapath.connect, "c1", two, second, gateways([endpoint(one, 2), second]))
    assert "10.202.0.2/24" in said_in(path, "ip -o -4 addr show eth1")
    assert said_in(path, "ip route show default").startswith("default via 10.201.0.1")
    lab.run(datapath.disconnect, "c1", endpoint(one, 2))
    assert said_in(path, "ip route show default") == ""
    lab.run(datapath.set_ways_out, "c1", gateways([second]))
    assert said_in(path, "ip route show default").startswith("default via 10.202.0.1 dev eth1")
    lab.run(datapath.disconnect, "c1", second)
    assert "eth" not in said_in(path, "ip -o link")
    lab.run(datapath.remove_network, two)
    lab.run(datapath.drop_bridge, two.bridge)
    assert "tb2" not in lab.run(datapath.links)


def test_a_subnet_is_its_next_networks_even_while_the_last_ones_bridge_is_still_there(lab: Lab) -> None:
    first = network(1, subnet6="fd00:201::/64", gateway6="fd00:201::1")
    second = replace(first, id="2" * 64, name="net2", bridge="tb2")
    datapath = lab.datapath()
    lab.run(datapath.start, [first], {}, [])
    lab.run(datapath.remove_network, first)
    lab.run(datapath.add_network, second)
    assert {"tb1", "tb2"} <= lab.run(datapath.links)
    path = opened(lab, datapath, "c1", [(second, endpoint(second, 2))], [PortRule("tcp", "", 8080, "10.201.0.2", 80)])
    with tcp_server(path, 80, b"page"):
        assert lab.run(fetch, "127.0.0.1", 8080) == "page 10.201.0.1"
    assert "tb1" not in lab.shell("ip -o -6 route show fd00:201::/64") + lab.shell("ip -o route")
    lab.run(datapath.drop_bridge, "tb1")


def test_a_sandbox_that_closes_leaves_nothing(lab: Lab) -> None:
    net = network(1)
    datapath = lab.datapath()
    lab.run(datapath.start, [net], {}, [])
    links, rules = lab.shell("ip -o link | wc -l"), lab.run(lambda: Nftables().run("list table inet cove-test"))
    mine, port = endpoint(net, 2), PortRule("udp", "", 5353, "10.201.0.2", 53)
    opened(lab, datapath, "c1", [(net, mine)], [port])
    assert "5353" in lab.run(lambda: Nftables().run("list table inet cove-test"))
    lab.run(datapath.close_sandbox, "c1", [mine], [port], True)
    assert not lab.run(datapath.has_namespace, "c1")
    assert not datapath.path("c1").exists()
    assert lab.shell("ip -o link | wc -l") == links
    assert lab.run(lambda: Nftables().run("list table inet cove-test")) == rules
    lab.run(datapath.close_sandbox, "c1", [mine], [port], True)  # a second time does no harm


def test_an_address_is_its_next_containers_even_while_the_last_ones_namespace_is_held(lab: Lab) -> None:
    net = network(1)
    datapath = lab.datapath()
    lab.run(datapath.start, [net], {}, [])
    first, second = endpoint(net, 2, name="vfirst"), endpoint(net, 2, name="vsecond")
    opened(lab, datapath, "c1", [(net, first)], [])
    opened(lab, datapath, "c3", [(net, endpoint(net, 3))], [])

    def answer() -> str:
        return within(datapath.path("c3"), lambda: fetch("10.201.0.2", 80))

    with datapath.path("c1").open("rb") as held:
        kept = Path(f"/proc/self/fd/{held.fileno()}")
        with tcp_server(kept, 80, b"first"):
            assert answer() == "first 10.201.0.3"
            lab.run(datapath.close_sandbox, "c1", [first], [], False)
            opened(lab, datapath, "c2", [(net, second)], [])
            assert "vfirst" in lab.run(datapath.links)
            with tcp_server(datapath.path("c2"), 80, b"second"):
                # What is left of the first says that the address is behind its own port.
                assert within(kept, lambda: fetch("10.201.0.3", 80, 0.2)) == ""
                assert answer() == "second 10.201.0.3"
                lab.run(datapath.drop_pairs_aside, [first])
                assert {"vfirst", "vsecond"} & lab.run(datapath.links) == {"vsecond"}
                assert answer() == "second 10.201.0.3"
    lab.run(datapath.drop_pairs_aside, [first])  # a second time does no harm


def test_an_open_that_fails_leaves_nothing(lab: Lab) -> None:
    net = network(1)
    datapath = lab.datapath()
    lab.run(datapath.start, [net], {}, [])
    opened(lab, datapath, "c1", [(net, endpoint(net, 2))], [PortRule("tcp", "", 80, "10.201.0.2", 80)])
    for wrong, ports in (
        (replace(endpoint(net, 3), mac_address="01:00:00:00:00:01"), []),  # a group's address
        (replace(endpoint(net, 3), host_interface="vtb12"), []),  # the first one's
        (endpoint(net, 3, name="v3"), [PortRule("tcp", "", 80, "10.201.0.3", 80)]),  # the first one's port
    ):
        with pytest.raises((NetlinkError, FirewallError)):
            opened(lab, datapath, "c2", [(net, wrong)], ports)
        assert not datapath.path("c2").exists()
    assert lab.run(datapath.has_namespace, "c1")
    path = opened(lab, datapath, "c2", [(net, endpoint(net, 3))], [])
    assert "10.201.0.3" in said_in(path, "ip -o -4 addr show eth0")


def test_a_network_that_the_kernel_refuses_leaves_nothing(lab: Lab) -> None:
    datapath = lab.datapath()
    lab.run(datapath.start, [], {}, [])
    with pytest.raises(NetlinkError):  # no device but lo has ::1
        lab.run(datapath.add_network, network(1, ipv6=True, subnet6="::/64", gateway6="::1"))
    assert "tb1" not in lab.run(datapath.links)
    assert not [*(lab.folder / "bridges").iterdir()]


def test_the_next_engine_takes_over_what_runs_and_clears_what_does_not(lab: Lab) -> None:
    net = network(1)
    first = lab.datapath()
    lab.run(first.start, [net], {}, [])
    kept, stale = endpoint(net, 2), endpoint(net, 3)
    rule = PortRule("tcp", "", 8080, "10.201.0.2", 80)
    path = opened(lab, first, "c1", [(net, kept)], [rule])
    opened(lab, first, "c2", [(net, stale)], [PortRule("tcp", "", 8081, "10.201.0.3", 80)])
    lab.run(first.close)  # as much as a kill leaves
    second = lab.datapath()
    with tcp_server(path, 80, b"still here"):
        lab.run(second.start, [net], {kept.host_interface: kept}, [rule])
        lab.run(second.remove_namespaces_except, {"c1"})
        assert lab.run(fetch, "127.0.0.1", 8080).startswith("still here")
    assert not second.path("c2").exists()
    assert stale.host_interface not in lab.run(second.links)
    assert "8081" not in lab.run(lambda: Nftables().run("list table inet cove-test"))


def test_what_the_machine_knows_is_taken(lab: Lab) -> None:
    datapath = lab.datapath()
    lab.run(datapath.start, [network(1)], {}, [])
    lab.shell("ip route add 10.77.0.0/16 via 10.201.0.9")
    taken, devices = lab.run(datapath.surroundings)
    for subnet in ("127.0.0.0/8", "10.201.0.0/24", "10.77.0.0/16"):
        assert ipaddress.IPv4Network(subnet) in taken
    assert {"lo", "tb1"} <= devices


def test_rules_are_all_or_nothing_and_errors_have_nftables_words(lab: Lab) -> None:
    def scenario() -> None:
        nft = Nftables()
        nft.run("add table ip t; add set ip t s { type inet_service; }")
        with pytest.raises(FirewallError, match="nftables: "):
            nft.run("add element ip t s { 80 }\nadd element ip t nosuch { 81 }")
        assert "80" not in nft.run("list set ip t s")
        nft.close()
        nft.close()

    lab.run(scenario)


def test_a_thousand_requests_are_all_answered(lab: Lab) -> None:
    def scenario() -> None:
        with Netlink() as netlink:
            gone = [delete_link(f"gone{number}") for number in range(999)]
            netlink.run([add_bridge("many", "02:42:00:00:00:01"), *gone, set_up(LOOPBACK_INDEX)], ignore=GONE)
            with pytest.raises(NetlinkError, match="cannot delete link gone0: "):
                netlink.run([*gone, delete_link("many")])
            assert "many" not in {link.name for link in netlink.links()}

    lab.run(scenario)


def test_a_pair_for_a_bridge_that_somebody_took_away_is_refused(lab: Lab) -> None:
    net = network(1)
    datapath = lab.datapath()
    lab.run(datapath.start, [net], {}, [])
    lab.shell("ip link del tb1")
    before = lab.run(datapath.links)
    with pytest.raises(EngineError, match="network net1 has lost its bridge tb1"):
        opened(lab, datapath, "c1", [(net, endpoint(net, 2))], [])
    assert lab.run(datapath.links) == before
    assert not datapath.path("c1").exists()


def test_the_kernels_words_are_in_netlinks_errors(lab: Lab) -> None:
    def scenario() -> None:
        with Netlink() as netlink:
            netlink.run([add_bridge("b0", "02:00:00:00:00:01")])
            with pytest.raises(NetlinkError, match="cannot add bridge b0: File exists"):
                netlink.run([add_bridge("b0", "02:00:00:00:00:01"), add_bridge("b1", "02:00:00:00:00:02")])
            assert {"b0", "b1"} <= {link.name for link in netlink.links()}  # the second was made all the same
            netlink.run([delete_link("b0"), delete_link("b1")])
            with pytest.raises(NetlinkError, match="cannot delete link b0: No such device"):
                netlink.run([delete_link("b0")])
            assert [link.kind for link in netlink.links() if link.name == "lo"] == [""]
            netlink.run([])

    lab.run(scenario)


def test_a_namespace_ends_when_it_is_removed(tmp_path: Path, lab: Lab) -> None:
    path = tmp_path / "ns"

    def scenario() -> None:
        own = own_namespace()
        made = namespaces.create()
        assert own_namespace() == own  # the thread is back where it was
        namespaces.mount(made, path)
        with pytest.raises(FileExistsError):
            namespaces.mount(made, path)
        made.close()
        assert namespaces.is_mounted(path)
        entered = namespaces.enter(path)
        assert [link.name for link in entered.netlink.links()] == ["lo"]
        entered.close()
        namespaces.remove(path)
        assert not path.exists()
        namespaces.remove(path)
        assert not namespaces.is_mounted(path)

    lab.run(scenario)


def _on_parent(parent: str) -> tuple[Network, Endpoint]:
    net = replace(network(1), driver="macvlan", bridge="", parent=parent, options={"parent": parent})
    return net, replace(endpoint(net, 2), host_interface="", endpoint_id="ab" * 32)


def test_a_start_takes_away_parents_that_were_made_for_networks_that_are_no_more(lab: Lab) -> None:
    lab.shell("ip link add name made0 type veth peer name mine0")
    lab.shell("ip link add name other0 type veth peer name other1")
    datapath = lab.datapath()
    files = lab.folder / "parents"
    (files / "made0").touch()  # an engine was killed after it had made it
    (files / "never0").touch()  # or before
    lab.run(datapath.start, [_on_parent("other0")[0]], {}, [])
    assert lab.run(datapath.links) >= {"other0", "other1"}
    assert not lab.run(datapath.links) & {"made0", "mine0"}
    assert not [*files.iterdir()]
    lab.run(datapath.parents.drop, "other0")  # was there before
    assert "other0" in lab.run(datapath.links)


def test_a_macvlan_is_gone_before_its_namespace_is(lab: Lab) -> None:
    """Somebody in it keeps the namespace, and the next container takes the address at once."""
    lab.shell("ip link add name eth0 type veth peer name far0; ip link set eth0 up; ip link set far0 up")
    net, place = _on_parent("eth0")  # as the container's own is called
    datapath = lab.datapath()
    lab.run(datapath.start, [net], {}, [])
    with contextlib.ExitStack() as held:
        for _ in range(2):
            path = opened(lab, datapath, "c1", [(net, place)], [])
            assert "10.201.0.2/24" in said_in(path, "ip -o -4 addr show eth0")
            held.enter_context(path.open("rb"))
            lab.run(datapath.close_sandbox, "c1", [place], [], False)


def test_half_of_a_macvlan_is_taken_away(lab: Lab) -> None:
    """An engine was killed before the device had its name."""
    lab.shell("ip link add name par0 type veth peer name far0; ip link set par0 up")
    net, place = _on_parent("par0")
    datapath = lab.datapath()
    lab.run(datapath.start, [net], {}, [])
    path = opened(lab, datapath, "c1", [(net, place)], [])
    assert lab.run(datapath.has_device, "c1", place)
    said_in(path, f"ip link set eth0 down; ip link set eth0 alias ''; ip link set eth0 name cv{place.endpoint_id[:12]}")
    assert not lab.run(datapath.has_device, "c1", place)
    assert said_in(path, "ip -o link").count("\n") == 1


def test_what_a_container_calls_like_a_network_device_is_its_own(lab: Lab) -> None:
    lab.shell("ip link add name par0 type veth peer name far0; ip link set par0 up")
    lab.shell("ip link add name par1 type veth peer name far1; ip link set par1 up")
    nets = [_on_parent(f"par{number}")[0] for number in (0, 1)]
    first, second = (
        replace(_on_parent("")[1], endpoint_id=f"{number}" * 64, interface=f"eth{number}", mac_address="")
        for number in (0, 1)
    )
    datapath = lab.datapath()
    lab.run(datapath.start, nets, {}, [])
    path = opened(lab, datapath, "c1", [(nets[0], first)], [])
    said_in(path, "ip link set eth0 down; ip link set eth0 name eth1; ip link add eth0 type bridge")
    with pytest.raises(OSError, match="File exists"):
        lab.run(datapath.connect, "c1", nets[1], second, gateways([first, second]))
    lab.run(datapath.disconnect, "c1", second)  # as is done about what failed
    assert not lab.run(datapath.has_device, "c1", second)
    assert "eth0:" in said_in(path, "ip -o link")
    assert lab.run(datapath.has_device, "c1", first)
    lab.run(datapath.disconnect, "c1", first)
    left = said_in(path, "ip -o link")
    assert "eth0:" in left
    assert not re.search("eth1|cv", left)
