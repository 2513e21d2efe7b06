"""The address ranges of `network create`, and what `port` says. Every text was seen from docker 28.2."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.cli.command import Context
from cove.cli.errors import CliError
from cove.cli.ipam import ipam_config
from cove.cli.networks import COMMANDS as NETWORKS
from cove.cli.volumes import COMMANDS as VOLUMES
from told_engine import COVE, engine_at

A, B = "10.1.0.0/24", "10.1.1.0/24"


def test_each_address_goes_with_its_subnet() -> None:
    assert ipam_config([A, B], ["10.1.1.0/25"], ["10.1.1.1", "10.1.0.1"], {"x": "10.1.0.9"}) == [
        {"Subnet": A, "Gateway": "10.1.0.1", "AuxiliaryAddresses": {"x": "10.1.0.9"}},
        {"Subnet": B, "IPRange": "10.1.1.0/25", "Gateway": "10.1.1.1"},
    ]
    assert ipam_config(["foo"], [], [], {}) == [{"Subnet": "foo"}]  # the engine says what is wrong with it


@pytest.mark.parametrize(
    ("subnets", "ranges", "gateways", "auxiliary", "told"),
    [
        ([A, "10.1.0.0/25"], [], [], {}, "multiple overlapping subnet configuration is not supported"),
        ([A, A], [], [], {}, "multiple overlapping subnet configuration is not supported"),
        ([], ["x"], [], {}, "every ip-range or gateway must have a corresponding subnet"),
        ([A], [], ["10.1.0.1", "10.1.0.2"], {}, "every ip-range or gateway must have a corresponding subnet"),
        ([A], ["10.1.0.5"], [], {}, "invalid CIDR address: 10.1.0.5"),
        ([A], ["10.1.0.0/255.255.255.0"], [], {}, "invalid CIDR address: 10.1.0.0/255.255.255.0"),
        ([A], ["10.2.0.0/25"], [], {}, "no matching subnet for range 10.2.0.0/25"),
        ([A], [], ["foo"], {}, "no matching subnet for gateway foo"),
        ([A], [], ["fe80::1"], {}, "no matching subnet for gateway fe80::1"),
        ([A], [], ["10.1.0.1/x"], {}, "invalid CIDR address: 10.1.0.1/x"),
        ([], [], [], {"a": "10.1.0.1"}, "no matching subnet for aux-address 10.1.0.1"),
        (["foo"], [], ["10.1.0.1"], {}, "invalid subnet: invalid CIDR address: foo"),
        (["foo", "bar"], [], [], {}, "invalid subnet: invalid CIDR address: bar"),
        (
            [A, B],
            ["10.1.0.0/25", "10.1.0.128/25"],
            [],
            {},
            f"cannot configure multiple ranges (10.1.0.128/25, 10.1.0.0/25) on the same subnet ({A})",
        ),
        (
            [A, B],
            [],
            ["10.1.0.1", "10.1.0.2"],
            {},
            f"cannot configure multiple gateways (10.1.0.2, 10.1.0.1) for the same subnet ({A})",
        ),
    ],
)
def test_refuses_addresses_in_dockers_words(
    subnets: list[str], ranges: list[str], gateways: list[str], auxiliary: dict[str, str], told: str
) -> None:
    with pytest.raises(CliError) as caught:
        ipam_config(subnets, ranges, gateways, auxiliary)
    assert caught.value.message == told


def test_what_dockers_usage_leaves_out() -> None:
    usage = NETWORKS["network rm"].help("cove network rm")
    assert usage.startswith("Usage:  cove network rm NETWORK [NETWORK...]\n")
    assert "-f, --force   Do not error" in usage
    update = VOLUMES["volume update"]
    assert update.help("cove volume update") == (
        "Usage:  cove volume update [OPTIONS] [VOLUME]\n\nUpdate a volume (cluster volumes only)\n"
    )
    assert update.parse(Context("cove volume update"), ["--availability", "drain", "v"])["availability"] == "drain"


def _bound(*addresses: tuple[str, int]) -> list[dict[str, str]]:
    return [{"HostIp": host, "HostPort": str(port)} for host, port in addresses]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Callable[..., tuple[int, str, str]]]:
    ports: dict[str, Any] = {
        "443/tcp": None,
        "100/tcp": _bound(("::", 8100), ("0.0.0.0", 8100)),
        "80/tcp": _bound(("::", 8080), ("0.0.0.0", 9090), ("0.0.0.0", 8080), ("0.0.0.0", 10000)),
    }
    with engine_at(tmp_path / "engine.sock") as engine:
        engine.answers["GET", "/containers/c/json"] = 200, {"NetworkSettings": {"Ports": ports}}

        def asked(*words: str) -> tuple[int, str, str]:
            environment = os.environ | {"COVE_HOST": engine.url}
            done = subprocess.run(
                [*COVE, "port", "c", *words], env=environment, capture_output=True, text=True, timeout=20
            )
            return done.returncode, done.stdout, done.stderr

        yield asked


def test_ports_are_in_the_order_of_their_numbers(port: Callable[..., tuple[int, str, str]]) -> None:
    eighty = ["0.0.0.0:8080", "0.0.0.0:9090", "0.0.0.0:10000", "[::]:8080"]
    assert port("80") == (0, "".join(f"{line}\n" for line in eighty), "")
    everything = [*(f"80/tcp -> {line}" for line in eighty), "100/tcp -> 0.0.0.0:8100", "100/tcp -> [::]:8100"]
    assert port() == port("") == (0, "".join(f"{line}\n" for line in everything), "")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("foo/tcp", 'invalid port (foo): strconv.ParseUint: parsing "foo": invalid syntax'),
        ("65536", 'invalid port (65536): strconv.ParseUint: parsing "65536": value out of range'),
        ("/udp", 'invalid port (): strconv.ParseUint: parsing "": invalid syntax'),
        ("443", "No public port '443' published for c"),
        ("080", "No public port '080' published for c"),
    ],
)
def test_refuses_ports_in_dockers_words(port: Callable[..., tuple[int, str, str]], given: str, told: str) -> None:
    assert port(given) == (1, "", f"Error: {told}\n")
