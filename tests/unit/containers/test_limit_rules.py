"""Updates, restart policies and signals: dockerd's rules and words."""

from __future__ import annotations

from typing import Any

import pytest
from coved.containers import restarts, signals, update
from coved.containers.config_schema import HOST_CONFIG, read
from coved.errors import Conflict, InvalidParameter

MB = 1 << 20
SECOND = 1_000_000_000


def host(**given: Any) -> dict[str, Any]:
    made = read(HOST_CONFIG, given, "HostConfig")
    return {**made, "RestartPolicy": restarts.check(made["RestartPolicy"])}


@pytest.mark.parametrize(
    ("there", "wanted", "words"),
    [
        ({"CpuPeriod": 5000}, {"NanoCpus": 5}, "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"),
        ({"CpuQuota": 5000}, {"NanoCpus": 5}, "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"),
        ({"NanoCpus": 5}, {"CpuPeriod": 5000}, "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set"),
        ({"NanoCpus": 5}, {"CpuQuota": 5000}, "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"),
        (
            {"Memory": 10 * MB, "MemorySwap": 20 * MB}, {"Memory": 30 * MB},
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        (
            {"AutoRemove": True}, {"RestartPolicy": {"Name": "always"}},
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
    ],
)  # fmt: skip
def test_updates_that_do_not_go_with_what_is_there(there: dict[str, Any], wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(Conflict, match=f"^{words}$"):
        update.merge(host(**there), update.parse(wanted))


def test_an_update_changes_what_it_names_and_sends_what_depends_on_it() -> None:
    before = host(Memory=10 * MB, MemorySwap=20 * MB, CpuQuota=5000, PidsLimit=9)
    after = update.merge(before, update.parse({"Memory": 15 * MB, "PidsLimit": -5, "CpuPeriod": 50_000}))
    assert (after["Memory"], after["MemorySwap"], after["PidsLimit"], after["CpuQuota"]) == (15 * MB, 20 * MB, 0, 5000)
    assert update.changed(before, after) == {
        "memory": {"limit": 15 * MB, "swap": 20 * MB},
        "cpu": {"quota": 5000, "period": 50_000},
        "pids": {"limit": -1},
    }
    assert after["RestartPolicy"] == before["RestartPolicy"]
    assert update.changed(before, update.merge(before, update.parse({}))) == {}


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"Name": "foo"}, "unknown policy 'foo'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"),
        ({"Name": "always", "MaximumRetryCount": 1}, "maximum retry count can only be used with 'on-failure'"),
        (
            {"Name": "no", "MaximumRetryCount": -1},
            "maximum retry count can only be used with 'on-failure' and cannot be negative",
        ),
        ({"Name": "on-failure", "MaximumRetryCount": -1}, "maximum retry count cannot be negative"),
    ],
)
def test_restart_policies_that_are_none(policy: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^invalid restart policy: {words}$"):
        restarts.check(policy)


def test_a_nameless_policy_is_no_policy() -> None:
    assert restarts.check({}) == restarts.check({"MaximumRetryCount": 4}) == {"Name": "no", "MaximumRetryCount": 0}


@pytest.mark.parametrize("policy", ["no", "always", "on-failure", "unless-stopped"])
@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("stopped", [False, True])
def test_who_starts_again(policy: str, code: int, stopped: bool) -> None:
    container = ended(policy, code, stopped)
    now = {"no": False, "always": True, "on-failure": code != 0, "unless-stopped": True}[policy] and not stopped
    assert restarts.wanted(**container) is now
    assert restarts.wanted(**container, after_boot=True) is (now or policy == "always")


def test_retries_are_counted() -> None:
    assert restarts.wanted(**ended("on-failure", 1, False, limit=2, count=1))
    assert not restarts.wanted(**ended("on-failure", 1, False, limit=2, count=2))


def ended(policy: str, code: int, stopped: bool, limit: int = 0, count: int = 0) -> dict[str, Any]:
    host = {"RestartPolicy": {"Name": policy, "MaximumRetryCount": limit}}
    return {"host": host, "exit_code": code, "restarts": count, "stopped": stopped}


def test_the_back_off_doubles_to_a_minute_and_begins_again_after_ten_seconds() -> None:
    delays, delay = [], 0.0
    for _ in range(12):
        delay = restarts.next_delay(delay, 1)
        delays.append(round(delay, 1))
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]
    assert restarts.next_delay(60.0, 10 * SECOND - 1) == 60.0
    assert restarts.next_delay(60.0, 10 * SECOND) == 0.1


@pytest.mark.parametrize(
    ("text", "number"), [("9", 9), ("kill", 9), ("SIGKILL", 9), ("sigterm", 15), ("RTMIN+3", 37), ("64", 64)]
)
def test_signals(text: str, number: int) -> None:
    assert signals.supported(text) == number


@pytest.mark.parametrize("text", ["99", "32", "-1", "65", "99999999999"])
def test_numbers_that_are_no_signals(text: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^the linux daemon does not support signal {text}$"):
        signals.supported(text)


@pytest.mark.parametrize("text", ["FOO", "0", "SIG", "1x", "RTMIN+99", "\N{SUPERSCRIPT TWO}"])
def test_words_that_are_no_signals(text: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^invalid signal: {text.replace('+', '.')}$"):
        signals.supported(text)
