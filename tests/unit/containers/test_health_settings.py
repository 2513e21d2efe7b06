"""Health checks as configuration and as state."""

from __future__ import annotations

from typing import Any

import pytest
from coved.containers import health
from coved.containers.durations import go_duration
from coved.errors import InvalidParameter

SECOND = 1_000_000_000


def config(**check: Any) -> dict[str, Any]:
    return {"Healthcheck": check, "Shell": None}


def result(code: int) -> dict[str, Any]:
    return {"Start": "", "End": "", "ExitCode": code, "Output": ""}


def test_each_field_is_inherited_on_its_own() -> None:
    image = {"Test": ["CMD", "a"], "Interval": 5 * SECOND, "Retries": 7}
    assert health.inherit({"Retries": 2}, image) == {**image, "Retries": 2}
    assert health.inherit(None, image) == image
    assert health.inherit({"Test": ["NONE"]}, image)["Test"] == ["NONE"]  # type: ignore[index]
    assert health.inherit(None, None) is None


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"Interval": 999_999}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Timeout": -1}, "Timeout in Healthcheck cannot be less than 1ms"),
        ({"StartPeriod": 1}, "StartPeriod in Healthcheck cannot be less than 1ms"),
        ({"StartInterval": 1}, "StartInterval in Healthcheck cannot be less than 1ms"),
        ({"Retries": -1}, "Retries in Healthcheck cannot be negative"),
    ],
)
def test_dockers_words(check: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^{words}$"):
        health.check(health.read(check))


@pytest.mark.parametrize(
    "raw", [{"Test": "x"}, {"Test": [1]}, {"Interval": "1s"}, {"Retries": True}, {"Timeout": 1 << 63}]
)
def test_what_is_no_health_check(raw: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid JSON: Config\.Healthcheck\."):
        health.read(raw)


def test_names_match_in_any_case_and_what_is_zero_is_left_out() -> None:
    assert health.read({"test": ["CMD", "x"], "interval": SECOND, "Timeout": 0, "foo": 1}) == {
        "Test": ["CMD", "x"],
        "Interval": SECOND,
    }


def test_commands() -> None:
    assert health.command(config(Test=["CMD", "a", "b"])) == ["a", "b"]
    assert health.command(config(Test=["CMD-SHELL", "a b"])) == ["/bin/sh", "-c", "a b"]
    assert health.command({"Healthcheck": {"Test": ["CMD-SHELL", "x"]}, "Shell": ["bash", "-ec"]}) == [
        "bash",
        "-ec",
        "x",
    ]
    for none in ({"Test": ["NONE"]}, {"Test": ["FOO", "x"]}, {"Interval": SECOND}, {"Test": ["CMD"]}):
        assert health.command(config(**none)) is None
    assert health.command({"Healthcheck": None, "Shell": None}) is None


def test_three_failures_make_it_unhealthy_and_one_success_healthy() -> None:
    state, check = health.Health(), config(Test=["CMD", "x"])
    assert [state.note(result(1), check, SECOND) for _ in range(3)] == [False, False, True]
    assert (state.status, state.failing_streak) == ("unhealthy", 3)
    assert state.note(result(0), check, SECOND)
    assert (state.status, state.failing_streak) == ("healthy", 0)
    assert not state.note(result(1), check, SECOND)
    assert len(state.log) == 5
    state.note(result(9), check, SECOND)
    assert [one["ExitCode"] for one in state.log] == [1, 1, 0, 1, 9]


def test_failures_in_the_start_period_do_not_count_until_it_was_healthy() -> None:
    state, check = health.Health(), config(Test=["CMD", "x"], Retries=1, StartPeriod=10 * SECOND)
    assert not state.note(result(1), check, 9 * SECOND)
    assert (state.status, state.failing_streak) == ("starting", 0)
    assert state.note(result(1), check, 10 * SECOND)
    early = health.Health()
    early.note(result(0), check, SECOND)
    assert early.note(result(1), check, 2 * SECOND)
    assert early.status == "unhealthy"


def test_pauses() -> None:
    state = health.Health()
    assert state.pause_ns(config(), 0) == 30 * SECOND
    check = config(Interval=20 * SECOND, StartPeriod=10 * SECOND)
    assert state.pause_ns(check, SECOND) == 5 * SECOND
    assert state.pause_ns(check, 10 * SECOND) == 20 * SECOND
    state.status = "healthy"
    assert state.pause_ns(check, SECOND) == 20 * SECOND


def test_output_is_cut() -> None:
    output = health.Output()
    output.feed(b"a" * 4000)
    output.feed(b"b" * 96)
    assert output.text() == "a" * 4000 + "b" * 96
    output.feed(b"c")
    assert output.text() == "a" * 4000 + "b" * 96 + "..."


def test_output_need_not_be_text() -> None:
    output = health.Output()
    output.feed(b"\xff\xfeok")
    assert output.text() == "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}ok"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5\N{MICRO SIGN}s"),
        (250_000_000, "250ms"),
        (SECOND, "1s"),
        (1_050_000_000, "1.05s"),
        (90 * SECOND, "1m30s"),
        (3600 * SECOND, "1h0m0s"),
    ],
)
def test_durations_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert go_duration(nanoseconds) == text
