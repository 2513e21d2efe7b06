"""Limits that a request asks for: dockerd's words, and what becomes of them on kernels that can limit more or less."""

from __future__ import annotations

import json
from typing import Any

import pytest
from coved.containers import config, limits
from coved.containers.config_schema import HOST_CONFIG, Json, read
from coved.containers.kernel import Kernel
from coved.containers.resources import resources
from coved.errors import EngineError, InvalidParameter

EVERYTHING = Kernel(frozenset({"cpu", "cpuset", "io", "memory", "pids"}), "0-3", "0", 4, True, True)
NOTHING = Kernel(frozenset(), "0-3", "0", 4, False, False)
MB = 1 << 20


def host(**fields: Any) -> Json:
    return read(HOST_CONFIG, json.loads(json.dumps(fields)), "HostConfig")


def asked(machine: Kernel, **fields: Any) -> tuple[Json, list[str]]:
    made = host(**fields)
    return made, limits.check(made, machine)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"Memory": 6 * MB - 1}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": -5}, "Minimum memory limit allowed is 6MB"),
        ({"MemorySwap": 50 * MB}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
        (
            {"Memory": 100 * MB, "MemorySwap": 50 * MB},
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        ({"MemoryReservation": MB}, "Minimum memory reservation allowed is 6MB"),
        (
            {"Memory": 100 * MB, "MemoryReservation": 200 * MB},
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        ({"NanoCpus": 1, "CpuPeriod": 1000}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
        ({"NanoCpus": 1, "CpuQuota": 1000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        ({"NanoCpus": 5 * 10**9}, "Range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"),
        ({"NanoCpus": -1}, "Range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"),
        (
            {"CpuPeriod": 999},
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        ({"CpuQuota": 999}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ({"CpusetCpus": "0-9"}, "Requested CPUs are not available - requested 0-9, available: 0-3"),
        ({"CpusetCpus": "foo"}, "Invalid value foo for cpuset cpus: invalid format: foo"),
        ({"CpusetCpus": "3-1"}, "Invalid value 3-1 for cpuset cpus: invalid format: 3-1"),
        ({"CpusetCpus": "0-9223372036854775807"}, "value of out range, maximum is 8192"),
        ({"CpusetCpus": "8192"}, "Requested CPUs are not available - requested 8192, available: 0-3"),
        ({"CpusetCpus": "2-x"}, "Invalid value 2-x for cpuset cpus: invalid format: 2-x"),
        ({"CpusetMems": "7"}, "Requested memory nodes are not available - requested 7, available: 0"),
        ({"CpusetMems": "x"}, "Invalid value x for cpuset mems: invalid format: x"),
        ({"BlkioWeight": 9}, "Range of blkio weight is from 10 to 1000"),
        ({"BlkioWeight": 1001}, "Range of blkio weight is from 10 to 1000"),
        ({"Ulimits": [{"Name": "nofile", "Soft": "x"}]}, "invalid JSON: HostConfig.Ulimits must have"),
        ({"Ulimits": [{}]}, "invalid JSON: HostConfig.Ulimits must have"),
    ],
)
def test_what_cannot_be(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        asked(EVERYTHING, **fields)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"CpuRealtimeRuntime": 1000}, "Your kernel does not support CPU real-time scheduler"),
        ({"CpuRealtimePeriod": 1000}, "Your kernel does not support CPU real-time scheduler"),
        ({"IOMaximumIOps": 1}, "Invalid QoS settings: linux does not support configuration of maximum IOPs"),
        ({"IOMaximumBandwidth": 1}, "Invalid QoS settings: linux does not support configuration of maximum bandwidth"),
    ],
)
def test_what_only_other_systems_have(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineError, match=words) as caught:
        asked(EVERYTHING, **fields)
    assert caught.value.status == 500


def test_an_update_is_refused_and_discarded_in_other_words() -> None:
    wanted = host(IOMaximumIOps=1)
    with pytest.raises(InvalidParameter, match=r"linux does not support Maximum IO Bandwidth or Maximum IO IOps$"):
        limits.check(wanted, EVERYTHING, update=True)
    wanted = host(Memory=64 * MB, CpuRealtimePeriod=1000)  # the swap limit is what it was
    assert (limits.check(wanted, EVERYTHING, update=True), wanted["MemorySwap"]) == ([], 0)
    wanted = host(MemorySwap=64 * MB)
    assert limits.check(wanted, EVERYTHING, update=True) == []


def test_warnings_come_in_dockers_order() -> None:
    _, warnings = asked(
        NOTHING, Memory=64 * MB, MemoryReservation=32 * MB, CpuShares=5, CpuQuota=5000, CpusetCpus="0", PidsLimit=5,
        BlkioWeight=50, MemorySwappiness=3, OomKillDisable=True,
    )  # fmt: skip
    missing = "or the cgroup is not mounted."
    assert warnings == [
        f"Your kernel does not support memory limit capabilities {missing} Limitation discarded.",
        f"Your kernel does not support memory swappiness capabilities {missing} Memory swappiness discarded.",
        f"Your kernel does not support memory soft limit capabilities {missing} Limitation discarded.",
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
        f"Your kernel does not support PIDs limit capabilities {missing} PIDs limit discarded.",
        f"Your kernel does not support CPU shares {missing} Shares discarded.",
        "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
        f"Your kernel does not support cpuset {missing} Cpuset discarded.",
        f"Your kernel does not support Block I/O weight {missing} Weight discarded.",
    ]


@pytest.mark.parametrize(
    ("fields", "left", "warning"),
    [
        ({"Memory": 64 * MB}, {"Memory": 0, "MemorySwap": -1},
         "memory limit capabilities or the cgroup is not mounted. Limitation discarded."),
        ({"MemoryReservation": 64 * MB}, {"MemoryReservation": 0},
         "memory soft limit capabilities or the cgroup is not mounted. Limitation discarded."),
        ({"PidsLimit": 5}, {"PidsLimit": None}, "PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."),
        ({"CpuShares": 5}, {"CpuShares": 0}, "CPU shares or the cgroup is not mounted. Shares discarded."),
        ({"CpuQuota": 5000}, {"CpuQuota": 0}, "CPU CFS scheduler. CPU period/quota discarded."),
        ({"CpusetCpus": "0"}, {"CpusetCpus": ""}, "cpuset or the cgroup is not mounted. Cpuset discarded."),
        ({"BlkioWeight": 5}, {"BlkioWeight": 0}, "Block I/O weight or the cgroup is not mounted. Weight discarded."),
        (
            {"BlkioWeightDevice": [{"Path": "/x", "Weight": 5}]}, {"BlkioWeightDevice": []},
            "Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
        ),
        (
            {"BlkioDeviceReadBps": [{"Path": "/x", "Rate": 5}]}, {"BlkioDeviceReadBps": []},
            "BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read limit discarded.",
        ),
        (
            {"BlkioDeviceWriteIOps": [{"Path": "/x", "Rate": 5}]}, {"BlkioDeviceWriteIOps": []},
            "IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.",
        ),
    ],
)  # fmt: skip
def test_limits_without_a_controller_are_discarded(fields: dict[str, Any], left: Json, warning: str) -> None:
    made, warnings = asked(NOTHING, **fields)
    assert warnings == [f"Your kernel does not support {warning}"]
    assert {name: made[name] for name in left} == left
    made, warnings = asked(EVERYTHING, **{**fields, "BlkioWeight": 10 if "BlkioWeight" in fields else 0})
    assert warnings == []


def test_limits_that_cgroup_v2_does_not_have_are_discarded_everywhere() -> None:
    made, warnings = asked(EVERYTHING, MemorySwappiness=60, OomKillDisable=True)
    assert warnings == [
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
    ]
    assert (made["MemorySwappiness"], made["OomKillDisable"]) == (None, None)
    assert asked(EVERYTHING, MemorySwappiness=-1, OomKillDisable=False)[1] == []


def test_cpus_need_their_controller() -> None:
    with pytest.raises(
        InvalidParameter, match="NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler"
    ):
        asked(NOTHING, NanoCpus=10**9)


def test_a_kernel_without_swap() -> None:
    made, warnings = asked(Kernel(frozenset({"memory"}), swap=False), Memory=64 * MB, MemorySwap=65 * MB)
    assert made["MemorySwap"] == -1
    assert warnings[0].startswith("Your kernel does not support swap limit capabilities")


def test_swap_is_as_much_again_unless_it_was_given() -> None:
    assert asked(EVERYTHING, Memory=64 * MB)[0]["MemorySwap"] == 128 * MB
    assert asked(EVERYTHING, Memory=64 * MB, MemorySwap=-1)[0]["MemorySwap"] == -1


def test_the_terms_of_the_runtime_spec(tmp_path: Any) -> None:
    made, _ = asked(
        EVERYTHING, Memory=64 * MB, MemoryReservation=32 * MB, NanoCpus=1_500_000_000, CpuShares=512, CpusetCpus="0-1",
        CpusetMems="0", PidsLimit=7, BlkioWeight=300, BlkioDeviceReadBps=[{"Path": "/dev/zero", "Rate": 4096}],
        BlkioWeightDevice=[{"Path": "/dev/null", "Weight": 20}],
    )  # fmt: skip
    result = resources(made)
    assert result == {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 64 * MB, "reservation": 32 * MB, "swap": 128 * MB},
        "cpu": {"shares": 512, "quota": 150_000, "period": 100_000, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 7},
        "blockIO": {
            "weight": 300,
            "weightDevice": [{"major": 1, "minor": 3, "weight": 20}],
            "throttleReadBpsDevice": [{"major": 1, "minor": 5, "rate": 4096}],
        },
    }
    for unlimited in (0, -1):
        assert resources(host(PidsLimit=unlimited))["pids"] == {"limit": -1}
    assert "devices" not in resources(host(Privileged=True))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"Path": "/dev/nosuch", "Rate": 1}, "stat /dev/nosuch: no such file or directory"),
        ({"Path": "/dev/null", "Rate": "1"}, "invalid rate for device /dev/null"),
        ({}, "stat : no such file or directory"),
        ({"Path": b"a\\u0000b".decode("unicode_escape"), "Rate": 1}, "stat a"),
    ],
)
def test_devices_that_cannot_be_limited(entry: Json, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        resources(host(BlkioDeviceReadBps=[entry]))


@pytest.mark.parametrize(("text", "expected"), [("", set()), ("0", {0}), ("0-2,7", {0, 1, 2, 7})])
def test_lists_of_numbers(text: str, expected: set[int]) -> None:
    assert limits.numbers(text, 8192) == expected


def test_machines_may_have_more_cpus_than_dockers_maximum() -> None:
    machine = Kernel(frozenset({"cpuset"}), "0-9000")
    assert limits.check(host(CpusetCpus="8990-9000"), machine) == []


def test_isolation_is_a_word_of_windows() -> None:
    body = {"Image": "x", "Cmd": ["true"], "HostConfig": {"Isolation": "hyperv"}}
    with pytest.raises(EngineError, match="Invalid isolation: \"hyperv\" - linux only supports 'default'"):
        config.parse(body, {})
    body["HostConfig"] = {"Isolation": "default"}
    assert config.parse(body, {}).host["Isolation"] == "default"
