"""What `cove stats` makes of the engine's numbers, and how it draws them."""

from __future__ import annotations

from typing import Any

import pytest
from cove.cli import stats
from cove.cli.errors import CliError
from cove.cli.events import event_line, formatter

SAMPLE: dict[str, Any] = {
    "name": "/web",
    "id": "0123456789abcdef" * 4,
    "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}, "system_cpu_usage": 14_000_000_000, "online_cpus": 4},
    "precpu_stats": {"cpu_usage": {"total_usage": 500_000_000}, "system_cpu_usage": 10_000_000_000, "online_cpus": 4},
    "memory_stats": {"usage": 60 << 20, "limit": 200 << 20, "stats": {"inactive_file": 10 << 20}},
    "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 20}, "eth1": {"rx_bytes": 230, "tx_bytes": 0}},
    "blkio_stats": {
        "io_service_bytes_recursive": [
            {"major": 8, "minor": 0, "op": "read", "value": 4096},
            {"major": 8, "minor": 0, "op": "write", "value": 1_000_000},
            {"major": 8, "minor": 16, "op": "Read", "value": 4},
            {"major": 8, "minor": 16, "op": "", "value": 5},
        ]
    },
    "pids_stats": {"current": 7},
}
NOTHING = {
    "name": "/web",
    "id": "0123456789abcdef" * 4,
    "cpu_stats": {"cpu_usage": {"total_usage": 0}},
    "precpu_stats": {"cpu_usage": {"total_usage": 0}},
    "memory_stats": {},
    "blkio_stats": {"io_service_bytes_recursive": None},
    "pids_stats": {},
}


def test_numbers_are_dockers() -> None:
    assert stats.row("web", SAMPLE, valid=True, truncate=True) == {
        "Container": "web",
        "ID": "0123456789ab",
        "Name": "web",
        "CPUPerc": "100.00%",
        "MemUsage": "50MiB / 200MiB",
        "MemPerc": "25.00%",
        "NetIO": "1.23kB / 20B",
        "BlockIO": "4.1kB / 1MB",
        "PIDs": "7",
    }


def test_a_container_that_does_not_run_has_zeros() -> None:
    row = stats.row("web", NOTHING, valid=True, truncate=False)
    assert row["ID"] == NOTHING["id"]
    assert [row[name] for name in stats.COLUMNS[2:]] == ["0.00%", "0B / 0B", "0.00%", "0B / 0B", "0B / 0B", "0"]


@pytest.mark.parametrize("known", [None, SAMPLE])
def test_what_is_not_known_any_more_is_dashes(known: Any) -> None:
    row = stats.row("web", known, valid=False, truncate=True)
    assert [row[name] for name in stats.COLUMNS[2:]] == ["--", "-- / --", "--", "--", "--", "--"]
    assert row["Name"] == ("web" if known else "--")


@pytest.mark.parametrize(
    ("counted", "used"),
    [
        ({}, 100),
        ({"inactive_file": 40}, 60),
        ({"total_inactive_file": 30, "inactive_file": 40}, 70),
        ({"inactive_file": 100}, 100),
    ],
)
def test_the_file_cache_is_not_used_memory(counted: dict[str, int], used: int) -> None:
    assert stats.memory_used({"memory_stats": {"usage": 100, "stats": counted}}) == used


def test_old_engines_tell_the_number_of_processors_by_their_times() -> None:
    now = {"cpu_usage": {"total_usage": 50, "percpu_usage": [25, 25]}, "system_cpu_usage": 100}
    before = {"cpu_usage": {"total_usage": 0}, "system_cpu_usage": 0}
    assert stats.cpu_percent({"cpu_stats": now, "precpu_stats": before}) == 100.0


def test_a_frame_is_drawn_over_the_last_one() -> None:
    assert stats.frame("ab\nc\n") == "\033[Hab\033[K\nc\033[K\n\033[J"
    assert stats.frame("") == "\033[H\033[J"


EVENT = {
    "status": "die", "id": "abc", "from": "busybox", "Type": "container", "Action": "die",
    "Actor": {"ID": "abc", "Attributes": {"name": "<web>", "exitCode": "3"}}, "scope": "local",
    "time": 1700000000, "timeNano": 1700000000000000012,
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("{{.Status}} {{.ID}} {{.From}} {{.Scope}} {{.Time}} {{.TimeNano}}", "die abc busybox local 1700000000 1700000000000000012"),
        ("{{.Type}} {{.Action}} {{.Actor.ID}}", "container die abc"),
        ("{{.Actor.Attributes.exitCode}} {{.Actor.Attributes.nosuch}}", "3 <no value>"),
        ("{{json .Actor.Attributes}}", '{"name":"<web>","exitCode":"3"}'),
        ("{{json .Actor}}", '{"ID":"abc","Attributes":{"name":"<web>","exitCode":"3"}}'),
    ],
)  # fmt: skip
def test_events_have_dockers_names_in_templates(form: str, line: str) -> None:
    assert formatter(form)(EVENT) == line


def test_events_as_json_are_as_they_came() -> None:
    import json

    assert json.loads(formatter("json")(EVENT)) == EVENT
    assert formatter("{{json .}}")(EVENT) == formatter("json")(EVENT)


def test_events_as_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        line = "2023-11-15T03:43:20.000000012+05:30 container die abc (exitCode=3, name=<web>)"
        assert formatter("")(EVENT) == event_line(EVENT) == line
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("form", ["{{", "{{.Foo}}", "{{.status}}", "{{foo}}", "{{.Actor.Foo}}"])
def test_a_template_that_cannot_be_used_is_told_before_the_first_event(form: str) -> None:
    with pytest.raises(CliError, match=r"^Error parsing format: template: ") as error:
        formatter(form)
    assert error.value.status == 64
