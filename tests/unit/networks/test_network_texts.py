"""What networks write: packet rules, records of open sandboxes, resolv.conf and hosts."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from coved.networks import firewall, resolver
from coved.networks.firewall import BridgeRule, Firewall, PortRule
from coved.networks.model import Endpoint, PublishedPort, SandboxRequest
from coved.networks.records import Record, Records

NET = ipaddress.IPv4Network("172.18.0.0/16")
NET6 = ipaddress.IPv6Network("fd00:18::/64")


class Recorder:
    def __init__(self, *, dry: bool = False) -> None:
        self.texts: list[str] = []

    def run(self, text: str) -> str:
        self.texts.append(text)
        return ""

    def close(self) -> None:
        return


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> tuple[Firewall, list[str]]:
    monkeypatch.setattr(firewall, "Nftables", Recorder)
    made = Firewall("cove-x")
    nft: Any = made._nft
    return made, nft.texts


def test_a_reset_replaces_the_whole_table_in_one_transaction(rules: tuple[Firewall, list[str]]) -> None:
    made, texts = rules
    made.reset([BridgeRule("br-1", (NET,))], [PortRule("tcp", "", 49152, "172.18.0.2", 80)])
    (text,) = texts
    lines = text.splitlines()
    assert lines[:4] == [
        "add table ip cove-x",  # an older engine's
        "delete table ip cove-x",
        "add table inet cove-x",
        "delete table inet cove-x",
    ]  # deleting what is not there would be an error
    assert "table inet cove-x {" in lines
    assert 'add element inet cove-x bridges { "br-1" }' in lines
    assert "add element inet cove-x outbound4 { 172.18.0.0/16 }" in lines
    assert "add element inet cove-x published { tcp . 49152 : 172.18.0.2 . 80 }" in lines
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize(
    ("rule", "sets"),
    [
        (BridgeRule("b", (NET,)), {"bridges", "inside", "hairpin", "outbound4"}),
        (BridgeRule("b", (NET,), masquerade=False), {"bridges", "inside", "hairpin"}),
        (BridgeRule("b", (NET,), internal=True), {"bridges", "inside", "hairpin", "internal"}),
        (BridgeRule("b", (NET6,), apart=True), {"bridges", "outbound6"}),
        (
            BridgeRule("b", (NET, NET6), modes=("nat", "nat-unprotected")),
            {"bridges", "inside", "hairpin", "outbound4", "outbound6", "open6"},
        ),
    ],
)
def test_a_network_leaves_with_what_it_came_with(rules: Any, rule: BridgeRule, sets: set[str]) -> None:
    made, texts = rules
    made.add_bridge(rule)
    made.remove_bridge(rule)
    assert {line.split()[4] for line in texts[0].splitlines()} == sets
    assert texts[1] == texts[0].replace("add element", "delete element")


def test_ports_have_the_map_of_their_address(rules: Any) -> None:
    made, texts = rules
    ports = [
        PortRule("udp", "127.0.0.1", 53, "172.18.0.2", 5353),
        PortRule("tcp", "", 80, "172.18.0.2", 8080),
        PortRule("tcp", "", 81, "172.18.0.2", 8080, known=True),
    ]
    made.add_ports(ports)
    made.remove_ports(ports)
    made.add_ports([])
    assert texts == [
        "add element inet cove-x published_at { udp . 127.0.0.1 . 53 : 172.18.0.2 . 5353 }\n"
        "add element inet cove-x published { tcp . 80 : 172.18.0.2 . 8080 }\n"
        "add element inet cove-x known { tcp . 81 : 172.18.0.2 . 8080 }",
        "delete element inet cove-x published_at { udp . 127.0.0.1 . 53 }\n"
        "delete element inet cove-x published { tcp . 80 }\n"
        "delete element inet cove-x known { tcp . 81 }",
    ]


def record(container_id: str, mode: str = "bridge") -> Record:
    endpoint = Endpoint(
        "n", "net", "e", "eth0", "veth1", "172.18.0.2", 16, "172.18.0.1", "02:42:00:00:00:01", ("db",), (), "fd00::2", 64,
        "fd00::1", ("169.254.0.9/16",), 3, (("net/ipv4/conf/eth0/log_martians", "1"),),
    )  # fmt: skip
    port = PublishedPort("tcp", 80, "127.0.0.1", 8080, 49152)
    return Record(container_id, "name", mode, (endpoint,), (port,), ("80/tcp",))


def test_records_are_read_back_the_same(tmp_path: Path) -> None:
    records = Records(tmp_path / "sandboxes")
    records.save(record("a"))
    records.save(record("b", "container:a"))
    found = {one.container_id: one for one in Records(tmp_path / "sandboxes").load()}
    assert found == {"a": record("a"), "b": record("b", "container:a")}
    assert (found["b"].shares, found["b"].has_namespace) == ("a", False)
    assert (found["a"].shares, found["a"].has_namespace) == ("", True)
    records.remove("a")
    records.remove("a")
    assert [one.container_id for one in records.load()] == ["b"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"container_id": "a", "unknown": 1, "endpoints": []}', "5"]
)
def test_what_is_no_record_is_removed_and_the_others_stay(tmp_path: Path, text: str) -> None:
    records = Records(tmp_path)
    records.save(record("good"))
    (tmp_path / "bad.json").write_text(text)
    (tmp_path / "half.tmp").write_text("{")
    assert [one.container_id for one in records.load()] == ["good"]
    assert [path.name for path in tmp_path.iterdir()] == ["good.json"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(resolver, "_OWN", tmp_path / "resolv.conf")
    monkeypatch.setattr(resolver, "_SYSTEMD", tmp_path / "systemd.conf")
    return tmp_path


def resolv(machine: Path, own: str | None, systemd: str | None = None, host_mode: bool = False, **request: Any) -> str:
    for name, text in (("resolv.conf", own), ("systemd.conf", systemd)):
        if text is not None:
            (machine / name).write_text(text)
    return resolver.resolv_conf(SandboxRequest("c", **request), host_mode=host_mode)


OWN = (
    "# mine\nnameserver 10.0.2.3\nnameserver 127.0.0.1\nsearch a.example b.example\noptions ndots:2 \noptions rotate\n"
)


def test_the_machines_servers_are_the_containers_but_for_its_loopback(machine: Path) -> None:
    assert resolv(machine, OWN) == "nameserver 10.0.2.3\nsearch a.example b.example\noptions ndots:2 rotate\n"
    assert "nameserver 127.0.0.1\n" in resolv(machine, OWN, host_mode=True)


def test_what_a_container_asks_for_wins(machine: Path) -> None:
    text = resolv(machine, OWN, dns=("1.1.1.1",), dns_search=("c.example",), dns_options=("timeout:1",))
    assert text == "nameserver 1.1.1.1\nsearch c.example\noptions timeout:1\n"
    assert "search" not in resolv(machine, OWN, dns_search=(".",))


def test_behind_systemds_stub_are_the_real_servers(machine: Path) -> None:
    assert resolv(machine, "nameserver 127.0.0.53\n", "nameserver 192.0.2.53\n") == "nameserver 192.0.2.53\n"


@pytest.mark.parametrize(
    "own", [None, "", "nameserver ::1\n", "nameserver 127.0.0.53\n", "nameserver nonsense\n", "\0\xff"]
)
def test_without_a_server_there_are_public_ones(machine: Path, own: str | None) -> None:
    assert resolv(machine, own) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_hosts_has_the_container_its_extras_and_the_laptop() -> None:
    request = SandboxRequest(
        "c", hostname="web", domainname="example.org", extra_hosts=("db:10.0.0.9", "laptop:host-gateway", "six:fd00::1")
    )
    text = resolver.hosts(request, ["172.18.0.2", "172.19.0.2"], "10.0.2.2", host_mode=False)
    lines = [line.split() for line in text.splitlines()]
    assert ["127.0.0.1", "localhost"] in lines
    assert ["10.0.0.9", "db"] in lines
    assert ["10.0.2.2", "laptop"] in lines
    assert ["fd00::1", "six"] in lines
    assert ["172.18.0.2", "web.example.org", "web"] in lines
    assert ["172.19.0.2", "web.example.org", "web"] in lines


def test_on_the_hosts_network_hosts_is_the_machines() -> None:
    text = resolver.hosts(SandboxRequest("c", hostname="web", extra_hosts=("db:10.0.0.9",)), [], "", host_mode=True)
    assert text.startswith(Path("/etc/hosts").read_text().rstrip("\n"))
    assert text.endswith("10.0.0.9\tdb\n")


def test_a_container_with_names_asks_its_own_server(machine: Path) -> None:
    (machine / "resolv.conf").write_text("nameserver 10.0.2.3\nsearch a.example\noptions rotate\n")
    text = resolver.resolv_conf(SandboxRequest("c", dns=("1.1.1.1",)), host_mode=False, names=True)
    assert text == "nameserver 127.0.0.11\nsearch a.example\noptions ndots:0 rotate\n"
    given = SandboxRequest("c", dns_options=("ndots:3",))
    assert resolver.resolv_conf(given, host_mode=False, names=True).endswith("options ndots:3\n")


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ((), False),
        (("ndots:0",), False),
        (("rotate", "ndots:2"), True),
        (("ndots:2", "ndots:0"), False),
        (("ndots:x",), False),
    ],
)
def test_whether_domains_are_appended_first(options: tuple[str, ...], given: bool) -> None:
    assert resolver.has_ndots(SandboxRequest("c", dns_options=options)) is given


def test_the_machines_name_stands_in_hosts_when_it_is_not_given_another_address() -> None:
    text = resolver.hosts(SandboxRequest("c"), [], "", host_mode=False, machine="10.0.2.2")
    assert text.endswith("10.0.2.2\thost.docker.internal gateway.docker.internal\n")
    given = SandboxRequest("c", extra_hosts=("host.docker.internal:1.2.3.4",))
    assert "10.0.2.2" not in resolver.hosts(given, [], "", host_mode=False, machine="10.0.2.2")


def test_own_lines_come_and_go_with_addresses_and_others_stay() -> None:
    request = SandboxRequest("c", hostname="web.example", extra_hosts=("web.example:9.9.9.9",))
    text = "127.0.0.1\tlocalhost\n9.9.9.9\tweb.example web\n10.0.0.2\tweb.example web\n10.0.0.2 mine\nlast"
    assert resolver.with_own_lines(text, request, ["10.0.0.2"]) == text
    joined = resolver.with_own_lines(text, request, ["10.0.0.2", "10.1.0.2"])
    assert joined == f"{text}\n10.1.0.2\tweb.example web\n"
    assert resolver.with_own_lines(joined, request, ["10.1.0.2"]) == joined.replace("10.0.0.2\tweb.example web\n", "")
    assert resolver.with_own_lines(text, SandboxRequest("c"), ["10.1.0.2"]) == text
    assert resolver.with_own_lines("", request, ["10.1.0.2"]) == "10.1.0.2\tweb.example web\n"
