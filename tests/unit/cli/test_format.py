"""Durations, sizes, tables and ports as docker prints them."""

from __future__ import annotations

from typing import Any

import pytest
from cove.cli import format as fmt
from cove.cli.ports import display

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "Less than a second"),
        (1.9, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (2 * MINUTE, "2 minutes"),
        (59 * MINUTE, "59 minutes"),
        (HOUR, "About an hour"),
        (89 * MINUTE, "About an hour"),
        (90 * MINUTE, "2 hours"),
        (47 * HOUR, "47 hours"),
        (48 * HOUR, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert fmt.human_duration(seconds) == text


def test_sizes() -> None:
    assert [fmt.human_size(size, 3) for size in (0, 999, 1000, 1983744, 1e12)] == ["0B", "999B", "1kB", "1.98MB", "1TB"]
    assert fmt.human_size(1983744) == "1.984MB"
    assert fmt.bytes_size(25275000000) == "23.54GiB"


def test_times() -> None:
    assert fmt.parse_time("2026-11-24T20:10:21.5Z") == fmt.parse_time("2026-11-24T21:10:21.5+01:00") == 1795551021.5
    assert fmt.parse_time("0001-01-01T00:00:00Z") == 0
    assert fmt.go_time("2026-11-24T20:09:21.169896610Z") == "2026-11-24 20:09:21.16989661 +0000 UTC"


def test_columns_are_ten_wide_and_three_apart() -> None:
    assert (
        fmt.table([["A", "LONG HEADER", "C"], ["x", "y", "z"]])
        == "A         LONG HEADER   C\nx         y             z\n"
    )


def _port(private: int, public: int = 0, ip: str = "", protocol: str = "tcp") -> dict[str, Any]:
    return {"PrivatePort": private, "Type": protocol} | ({"PublicPort": public, "IP": ip} if public else {})


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ([], ""),
        ([_port(80)], "80/tcp"),
        ([_port(81), _port(80), _port(90)], "80-81/tcp, 90/tcp"),
        ([_port(80, 8080, "0.0.0.0"), _port(80, 8080, "::")], "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
        ([_port(80, 80, "127.0.0.1"), _port(81, 81, "127.0.0.1")], "127.0.0.1:80-81->80-81/tcp"),
        ([_port(53, 53, "0.0.0.0", "udp"), _port(53, 53, "0.0.0.0")], "0.0.0.0:53->53/tcp, 0.0.0.0:53->53/udp"),
        ([_port(80), _port(443, 1443, "0.0.0.0")], "80/tcp, 0.0.0.0:1443->443/tcp"),
    ],
)
def test_ports(ports: list[dict[str, Any]], text: str) -> None:
    assert display(ports) == text
