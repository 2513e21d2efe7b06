"""IPv6 of containers, by packets: who reaches whom, by what names, and by which way."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docker.types import IPAMConfig, IPAMPool

pytestmark = pytest.mark.native

_ASK_UDP = """
import socket, sys
one = socket.socket(type=socket.SOCK_DGRAM)
one.settimeout(30)
one.connect(("127.0.0.1", int(sys.argv[1])))
one.send(b"asked")
print(one.recv(100).decode())
"""
_ANSWER_UDP = """
import socket, sys
one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
one.settimeout(10)
one.bind(("::", int(sys.argv[1])))
print("ready", flush=True)
one.sendto(*one.recvfrom(100))
"""


@pytest.fixture
def network(own_engine: Any, own_client: Any) -> Iterator[Callable[..., Any]]:
    """Makes networks of the given subnets that are gone, with all containers, after the test."""

    def make(name: str, *subnets: str, ipv4: bool = True, **options: Any) -> Any:
        config = IPAMConfig(pool_configs=[IPAMPool(subnet=one) for one in subnets])
        if ipv4:
            return own_client.networks.create(name, ipam=config, **options)
        body = {"Name": name, "IPAM": config, "EnableIPv4": False, "EnableIPv6": True}
        answer = own_client.api._post_json(own_client.api._url("/networks/create"), data=body)
        return own_client.networks.get(answer.json()["Id"])

    yield make
    for one in own_client.containers.list(all=True):
        one.remove(force=True)
    own_client.networks.prune()


@pytest.fixture
def own_client(own_engine: Any) -> Iterator[Any]:
    import docker

    client = docker.DockerClient(own_engine.url, timeout=60)
    yield client
    client.close()


@pytest.fixture
def run(own_client: Any, network: Any) -> Callable[..., Any]:
    def run(name: str, on: str = "", **options: Any) -> Any:
        return own_client.containers.run(
            "busybox", ["sleep", "900"], name=name, detach=True, network=on or None, **options
        )

    return run


def say(container: Any, command: str) -> str:
    code, output = container.exec_run(["sh", "-c", command])
    return str(output.decode()) if code == 0 else f"failed ({code}): {output.decode()}"


def reaches(container: Any, address: str) -> bool:
    family = "-6" if ":" in address else "-4"
    return container.exec_run(["ping", family, "-c1", "-W1", address]).exit_code == 0


def place(container: Any, on: str) -> dict[str, Any]:
    container.reload()
    found: dict[str, Any] = container.attrs["NetworkSettings"]["Networks"][on]
    return found


def ways(container: Any) -> set[str]:
    """The default routes."""
    lines = say(container, "ip route; ip -6 route").splitlines()
    return {" ".join(line.split()[:5]) for line in lines if line.startswith("default")}


def test_two_families_at_once(network: Any, run: Any, own_client: Any) -> None:
    made = network("dual", "10.250.0.0/24", "fd00:250::/64", enable_ipv6=True)
    web = run("web", "dual", networking_config={"dual": own_client.api.create_endpoint_config(aliases=["site"])})
    one = run("one", "dual", hostname="uno")
    assert {key: place(web, "dual")[key] for key in (
        "IPAddress", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway"
    )} == {
        "IPAddress": "10.250.0.2", "Gateway": "10.250.0.1", "GlobalIPv6Address": "fd00:250::2", "GlobalIPv6PrefixLen": 64,
        "IPv6Gateway": "fd00:250::1",
    }  # fmt: skip
    made.reload()
    assert {one["IPv6Address"] for one in made.attrs["Containers"].values()} == {"fd00:250::2/64", "fd00:250::3/64"}
    # At once: there is no waiting for neighbours that might have the address.
    assert reaches(own_client.containers.get("one"), "fd00:250::2")
    assert ways(one) == {"default via 10.250.0.1 dev eth0", "default via fd00:250::1 dev eth0"}
    assert reaches(one, "fd00:250::1")
    for name in ("web", "site", "web.dual"):
        said = say(one, f"nslookup {name}")
        assert {*re.findall(r"^Address: (\S+)$", said, re.MULTILINE)} == {"10.250.0.2", "fd00:250::2"}, said
    assert "name = web.dual" in say(one, "nslookup fd00:250::2")
    assert "fd00:250::3\tuno" in say(one, "cat /etc/hosts")
    assert reaches(one, "::1")


def test_a_device_has_the_ipv6_of_its_network_and_no_other(network: Any, run: Any) -> None:
    network("four")
    network("dual", enable_ipv6=True)
    plain = run("plain", "four")
    switch = "cat /proc/sys/net/ipv6/conf/{}/disable_ipv6"
    assert [say(plain, switch.format(name)).strip() for name in ("eth0", "lo", "default", "all")] == [
        "1",
        "0",
        "0",
        "0",
    ]
    assert "inet6" not in say(plain, "ip addr show eth0")
    # What a container makes itself, such as a tunnel, is as on any machine.
    inner = run("inner", "four", cap_add=["NET_ADMIN"])
    assert say(inner, f"ip link add t0 type bridge && {switch.format('t0')}").strip() == "0"
    plain.client.networks.get("dual").connect(plain)
    assert "scope global" in say(plain, "ip -6 addr show eth1")
    plain.client.networks.get("dual").disconnect(plain)
    plain.client.networks.get("bridge").connect(plain)
    assert "inet6" not in say(plain, "ip addr show eth1")
    assert [line for line in say(plain, "cat /etc/hosts").splitlines() if plain.short_id in line] == [
        f"{place(plain, on)['IPAddress']}\t{plain.id[:12]}" for on in ("four", "bridge")
    ]


def test_without_ipv4(network: Any, run: Any) -> None:
    made = network("six", "fd00:251::/64", ipv4=False)
    assert (made.attrs["EnableIPv4"], made.attrs["EnableIPv6"]) == (False, True)
    first, second = run("first", "six"), run("second", "six")
    assert "inet " not in say(first, "ip addr show eth0")
    assert (place(first, "six")["IPAddress"], place(first, "six")["GlobalIPv6Address"]) == ("", "fd00:251::2")
    assert reaches(first, "fd00:251::3")
    assert ways(second) == {"default via fd00:251::1 dev eth0"}
    assert say(second, "ping -6 -c1 -W1 first").startswith("PING first (fd00:251::2)")
    assert len({place(one, "six")["MacAddress"] for one in (first, second)}) == 2


def test_ports_of_a_container_without_ipv4_are_relayed(network: Any, run: Any, own_engine: Any) -> None:
    network("six", "fd00:251::/64", ipv4=False)
    ports = {"80/tcp": ("127.0.0.1", 28081), "81/udp": ("127.0.0.1", 28081)}
    server = run("server", "six", ports=ports)
    server.reload()
    assert server.attrs["NetworkSettings"]["Ports"]["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "28081"}]
    say(server, "echo hello > /tmp/page; httpd -p 80 -h /tmp")
    fetch = own_engine.in_network("curl", "-s", "-m3", "http://127.0.0.1:28081/page")
    ask = own_engine.in_network(sys.executable, "-c", _ASK_UDP, "28081")
    assert subprocess.run(fetch, check=False, capture_output=True, text=True, timeout=20).stdout == "hello\n"
    inside = ["nsenter", "-t", str(server.attrs["State"]["Pid"]), "-n", sys.executable, "-c", _ANSWER_UDP, "81"]
    with subprocess.Popen(inside, stdout=subprocess.PIPE, text=True) as answering:
        assert answering.stdout is not None
        assert answering.stdout.readline() == "ready\n"
        assert subprocess.run(ask, check=False, capture_output=True, text=True, timeout=20).stdout == "asked\n"
    own_engine.kill()
    own_engine.start()
    assert subprocess.run(fetch, check=False, capture_output=True, text=True, timeout=20).stdout == "hello\n"
    server.restart(timeout=0)
    say(server, "httpd -p 80 -h /tmp")
    assert subprocess.run(fetch, check=False, capture_output=True, text=True, timeout=20).stdout == "hello\n"
    server.stop(timeout=0)
    assert subprocess.run(fetch, check=False, capture_output=True, timeout=20).returncode == 7  # refused


def test_networks_are_apart_by_ipv6_too(network: Any, run: Any) -> None:
    network("one", "fd00:1::/64", enable_ipv6=True)
    network("two", "fd00:2::/64", enable_ipv6=True)
    network("closed", "fd00:3::/64", enable_ipv6=True, internal=True)
    network("quiet", "fd00:4::/64", enable_ipv6=True, options={"com.docker.network.bridge.enable_icc": "false"})
    first, other, inside = run("first", "one"), run("other", "two"), run("inside", "closed")
    neighbours = [run("other2", "two"), run("inside2", "closed")]
    apart, apart2 = run("apart", "quiet"), run("apart2", "quiet")
    for target, neighbour in zip((place(other, "two"), place(inside, "closed")), neighbours, strict=True):
        for family in ("GlobalIPv6Address", "IPAddress"):
            assert reaches(neighbour, target[family])  # it is there, and answers
            assert not reaches(first, target[family])
    assert reaches(inside, "fd00:3::3")
    assert ways(inside) == set()
    for address in (place(apart2, "quiet")["IPAddress"], "fd00:4::3"):
        assert reaches(apart2, address)
        assert not reaches(apart, address)
    assert reaches(apart, "fd00:4::1")  # and so all that is outside


def test_the_way_out_moves_with_the_networks(network: Any, run: Any, own_client: Any) -> None:
    network("m4", "10.252.0.0/24")
    network("a4", "10.253.0.0/24")
    network("dual", "10.254.0.0/24", "fd00:254::/64", enable_ipv6=True)
    client = own_client.api
    container = run("many", "m4")

    def connect(name: str, **settings: Any) -> None:
        body = {"Container": container.id, "EndpointConfig": settings}
        assert client._post_json(client._url(f"/networks/{name}/connect"), data=body).status_code == 200

    m4, a4 = "default via 10.252.0.1 dev eth0", "default via 10.253.0.1 dev eth1"
    dual = {"default via 10.254.0.1 dev eth2", "default via fd00:254::1 dev eth2"}
    assert ways(container) == {m4}
    connect("a4")  # whose name comes first
    assert ways(container) == {a4}
    connect("dual")  # which leads out by both
    assert ways(container) == dual
    container.restart(timeout=0)
    assert ways(container) == dual
    own_client.networks.get("dual").disconnect(container)
    assert ways(container) == {a4}
    own_client.networks.get("a4").disconnect(container)
    assert ways(container) == {m4}
    connect("a4", GwPriority=-1)
    assert ways(container) == {m4}
    own_client.networks.get("a4").disconnect(container)
    own_client.networks.get("m4").disconnect(container)
    assert ways(container) == set()


def test_parameters_and_names_of_devices(network: Any, run: Any, own_client: Any) -> None:
    network(
        "net", options={"com.docker.network.container_iface_prefix": "lan", "com.docker.network.driver.mtu": "1300"}
    )
    sysctls = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0"
    settings = own_client.api.create_endpoint_config(driver_opt={"com.docker.network.endpoint.sysctls": sysctls})
    container = run("tuned", "net", networking_config={"net": settings})
    assert say(container, "cat /sys/class/net/lan0/mtu").strip() == "1300"
    assert say(container, "cat /proc/sys/net/ipv4/conf/lan0/log_martians").strip() == "1"
    assert say(container, "cat /proc/sys/net/ipv4/conf/lan0/forwarding").strip() == "0"
    network("other")
    own_client.networks.get("other").connect(container)
    assert "eth1" in say(container, "ls /sys/class/net")


@pytest.fixture
def outside(own_engine: Any, run: Any) -> Any:
    """A machine that shares a wire with the engine's, and knows of no other way to its containers."""
    made = run("outside", "none", privileged=True)
    pid = made.client.api.inspect_container(made.id)["State"]["Pid"]
    here, there = (f"nsenter -t {one} -n ip" for one in (own_engine.namespace_pid, pid))
    script = [f"{here} link add wire0 type veth peer name eth0 netns {pid}"]
    for ip, device, last in ((here, "wire0", 1), (there, "eth0", 2)):
        script += [f"{ip} link set {device} up", f"{ip} addr add 192.0.2.{last}/24 dev {device}"]
        script.append(f"{ip} addr add 2001:db8:1::{last}/64 dev {device} nodad")
    subprocess.run(["sh", "-ec", "\n".join(script)], check=True, timeout=20)
    return made


def test_containers_go_out_with_the_machines_address_and_nobody_comes_in(
    network: Any, run: Any, outside: Any, own_client: Any
) -> None:
    network("dual", "10.255.0.0/24", "fd00:255::/64", enable_ipv6=True)
    network(
        "bare", "fd00:256::/64", enable_ipv6=True, options={"com.docker.network.bridge.enable_ip_masquerade": "false"}
    )
    network("open", "fd00:257::/64", enable_ipv6=True, options={
        "com.docker.network.bridge.gateway_mode_ipv6": "nat-unprotected"})  # fmt: skip
    inner, bare = run("inner", "dual"), run("bare", "bare")
    run("opened", "open")
    for address in ("192.0.2.2", "2001:db8:1::2"):
        assert reaches(inner, address)
        assert not reaches(bare, address)  # what is sent back does not find the way
    assert "failed" not in say(
        outside, "ip -6 route add fd00::/16 via 2001:db8:1::1; ip route add default via 192.0.2.1"
    )
    assert reaches(bare, "2001:db8:1::2")
    assert not reaches(outside, "fd00:255::2")
    assert not reaches(outside, "10.255.0.2")
    assert reaches(outside, "fd00:257::2")
    # By a connection that was begun inside, answers do come in.
    say(outside, "echo hello > /tmp/hello; httpd -p [::]:80 -h /tmp")
    assert say(inner, "wget -qO- http://[2001:db8:1::2]/hello").strip() == "hello"


def test_published_ports_follow_the_networks_that_lead_out_by_ipv4(
    network: Any, run: Any, own_client: Any, own_engine: Any
) -> None:
    network("inner", internal=True)
    network("outer")
    network("six", "fd00:258::/64", ipv4=False)

    def page(within_s: int = 3) -> str:
        fetch = own_engine.in_network("curl", "-sS", f"-m{within_s}", "http://127.0.0.1:28080/page")
        done = subprocess.run(fetch, check=False, capture_output=True, text=True, timeout=20)
        print(done)
        return done.stdout

    server = run("server", "inner", ports={"80/tcp": ("127.0.0.1", 28080)})
    assert "failed" not in say(server, "echo hello > /tmp/page; httpd -p 80 -h /tmp")
    assert page() == ""
    outer, six = (own_client.networks.get(name) for name in ("outer", "six"))
    for _ in range(2):
        outer.connect(server)
        assert page(10) == "hello\n"
        server.reload()
        assert server.ports["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "28080"}]
        outer.disconnect(server)
        assert page() == ""
    outer.connect(server)
    six.connect(server)
    assert page(10) == "hello\n"
    outer.disconnect(server)
    assert page(10) == "hello\n"  # relayed: it has no other way but by IPv6
    outer.connect(server)
    assert page(10) == "hello\n"
    outer.disconnect(server)
    six.disconnect(server)
    # It is nobody's now.
    run("other", "outer", ports={"80/tcp": ("127.0.0.1", 28080)})
