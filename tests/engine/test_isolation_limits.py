"""Limits of memory, CPU, processes and block IO: those that the running engine says it has, tried; the others' warnings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import docker
import pytest

from isolation_support import Make, numbers, output
from life_support import events_of

pytestmark = pytest.mark.root

MB = 1 << 20


@pytest.fixture
def info(docker_client: Any) -> dict[str, Any]:
    return dict(docker_client.info())


@pytest.fixture
def ask(docker_client: Any) -> Iterator[Any]:
    """Create with a HostConfig; ``(container, warnings)``."""
    made = []

    def create(command: list[str], **host: Any) -> tuple[Any, list[str]]:
        answer = docker_client.api.create_container_from_config(
            {"Image": "busybox", "Cmd": command, "HostConfig": host}
        )
        made.append(answer["Id"])
        return docker_client.containers.get(answer["Id"]), answer["Warnings"]

    yield create
    for one in made:
        docker_client.api.remove_container(one, force=True)


def cgroup_file(container: Any, name: str) -> str:
    code, text = container.exec_run(["cat", f"/sys/fs/cgroup/{name}"])
    assert code == 0, text
    return str(text.decode().strip())


CASES = [
    # field of /info, request, files of the cgroup, start of the warning, what is left of the request without a controller
    ("MemoryLimit", {"Memory": 64 * MB}, {"memory.max": str(64 * MB), "memory.swap.max": str(64 * MB)},
     "Your kernel does not support memory limit capabilities", {"Memory": 0, "MemorySwap": -1}),
    ("MemoryLimit", {"Memory": 64 * MB, "MemorySwap": 80 * MB}, {"memory.swap.max": str(16 * MB)},
     "Your kernel does not support memory limit capabilities", {"Memory": 0}),
    ("MemoryLimit", {"Memory": 64 * MB, "MemorySwap": -1}, {"memory.swap.max": "max"},
     "Your kernel does not support memory limit capabilities", {"Memory": 0}),
    ("MemoryLimit", {"MemoryReservation": 32 * MB}, {"memory.low": str(32 * MB)},
     "Your kernel does not support memory soft limit capabilities", {"MemoryReservation": 0}),
    ("CPUShares", {"CpuShares": 512}, {"cpu.weight": "20"}, "Your kernel does not support CPU shares", {"CpuShares": 0}),
    ("CpuCfsQuota", {"CpuQuota": 20000, "CpuPeriod": 50000}, {"cpu.max": "20000 50000"},
     "Your kernel does not support CPU CFS scheduler", {"CpuQuota": 0, "CpuPeriod": 0}),
    ("CPUSet", {"CpusetCpus": "0", "CpusetMems": "0"}, {"cpuset.cpus": "0", "cpuset.mems": "0"},
     "Your kernel does not support cpuset", {"CpusetCpus": "", "CpusetMems": ""}),
    ("PidsLimit", {"PidsLimit": 20}, {"pids.max": "20"}, "Your kernel does not support PIDs limit", {"PidsLimit": None}),
]  # fmt: skip


@pytest.mark.parametrize(("field", "request_", "files", "warning", "left"), CASES)
def test_a_limit_is_set_or_discarded_with_a_warning(
    info: dict[str, Any],
    ask: Any,
    field: str,
    request_: dict[str, Any],
    files: dict[str, str],
    warning: str,
    left: dict[str, Any],
) -> None:
    container, warnings = ask(["sleep", "300"], **request_)
    container.start()
    container.reload()
    if info[field]:
        assert not warnings
        assert {name: cgroup_file(container, name) for name in files} == files
        assert {name: container.attrs["HostConfig"][name] for name in request_} == request_
    else:
        assert [one[: len(warning)] for one in warnings] == [warning]
        assert {name: container.attrs["HostConfig"][name] for name in left} == left


def test_cpus(info: dict[str, Any], ask: Any) -> None:
    if info["CpuCfsQuota"]:
        container, warnings = ask(["sleep", "300"], NanoCpus=500_000_000)
        container.start()
        assert (warnings, cgroup_file(container, "cpu.max")) == ([], "50000 100000")
    else:
        with pytest.raises(
            docker.errors.APIError, match="NanoCPUs can not be set, as your kernel does not support CPU CFS"
        ):
            ask(["sleep", "300"], NanoCpus=500_000_000)


def test_who_takes_too_much_memory_is_killed(info: dict[str, Any], make: Make) -> None:
    """Only where memory can be limited does it come to that; elsewhere the same program ends well."""
    container = make("dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1", mem_limit="32m", memswap_limit="32m")
    status = container.wait(timeout=60)["StatusCode"]
    container.reload()
    if info["MemoryLimit"]:
        assert container.attrs["State"]["OOMKilled"]
    else:
        assert (status, container.attrs["State"]["OOMKilled"]) == (0, False)


EATER = ["sh", "-c", "x=a; while :; do x=$x$x; done"]


@pytest.mark.usefixtures("limiting")
def test_the_end_for_want_of_memory_is_told(engine: Any, make: Make) -> None:
    container = make(*EATER, start=False, mem_limit="16m", memswap_limit="16m")
    with events_of(engine, container) as events:
        container.start()
        assert container.wait(timeout=100)["StatusCode"] == 137
        events.until("die")
        assert "oom" in events.actions
    container.reload()
    assert container.attrs["State"]["OOMKilled"] is True
    container.start()
    container.reload()
    assert container.attrs["State"]["OOMKilled"] is False


@pytest.mark.usefixtures("limiting")
def test_a_container_that_outlives_the_end_of_one_process(engine: Any, make: Make) -> None:
    container = make(mem_limit="16m", memswap_limit="16m")
    with events_of(engine, container) as events:
        assert container.exec_run(EATER).exit_code == 137
        events.until("oom")  # while it runs, not at its end
        assert "die" not in events.actions
    container.reload()
    state = container.attrs["State"]
    assert (state["Running"], state["OOMKilled"]) == (True, True)


def test_no_more_processes_than_allowed(info: dict[str, Any], make: Make) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 60 & done; ls -d /proc/[0-9]* | wc -l"
    container = make("sh", "-c", script, pids_limit=5)
    container.wait(timeout=30)
    text = container.logs().decode()
    if info["PidsLimit"]:
        assert "can't fork: Resource temporarily unavailable" in text
    else:
        assert int(text.split()[-1]) > 10


def has_io(engine: Any) -> bool:
    """/info has no field of it."""
    return "io" in engine.read(engine.cgroups() / "cgroup.controllers").split()


def test_limits_of_block_devices(engine: Any, ask: Any, disk: str) -> None:
    major, minor = numbers(engine, disk)
    container, warnings = ask(
        ["sleep", "300"],
        BlkioDeviceReadBps=[{"Path": disk, "Rate": MB}], BlkioDeviceWriteBps=[{"Path": disk, "Rate": 2 * MB}],
        BlkioDeviceReadIOps=[{"Path": disk, "Rate": 100}], BlkioDeviceWriteIOps=[{"Path": disk, "Rate": 200}],
    )  # fmt: skip
    container.start()
    if has_io(engine):
        assert not warnings
        assert cgroup_file(container, "io.max") == f"{major}:{minor} rbps={MB} wbps={2 * MB} riops=100 wiops=200"
    else:
        discarded = [
            *("Block I/O BPS read limit discarded.", "Block I/O BPS write limit discarded."),
            *("Block I/O IOPS read limit discarded.", "Block I/O IOPS write limit discarded."),
        ]
        assert [any(one.endswith(end) for one in warnings) for end in discarded] == [True] * 4


def test_a_block_device_that_there_is_not(engine: Any, ask: Any) -> None:
    container, warnings = ask(["true"], BlkioDeviceReadBps=[{"Path": "/dev/nosuch", "Rate": MB}])
    if has_io(engine):
        with pytest.raises(docker.errors.APIError, match="stat /dev/nosuch: no such file or directory"):
            container.start()
    else:
        assert len(warnings) == 1


def test_weights_of_block_io(ask: Any) -> None:
    container, warnings = ask(["sleep", "300"], BlkioWeight=500)
    container.start()
    container.reload()
    if warnings:
        assert warnings == [
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
        ]
        assert container.attrs["HostConfig"]["BlkioWeight"] == 0
        assert container.exec_run(["sh", "-c", "cat /sys/fs/cgroup/io.*weight"]).exit_code != 0
    else:
        text = container.exec_run(["sh", "-c", "cat /sys/fs/cgroup/io.*weight"]).output.decode()
        assert "default 500" in text or "default 4950" in text


def test_real_time_is_refused(ask: Any) -> None:
    with pytest.raises(docker.errors.APIError, match="Your kernel does not support CPU real-time scheduler"):
        ask(["true"], CpuRealtimeRuntime=1000)


@pytest.mark.parametrize("parent", ["/outer/inner", "outer/inner", "../../outer/inner", "/outer//inner/."])
def test_a_cgroup_parent(engine: Any, make: Make, parent: str) -> None:
    container = make(cgroup_parent=parent)
    container.reload()
    own = engine.read(f"/proc/{container.attrs['State']['Pid']}/cgroup").splitlines()
    assert f"0::/outer/inner/{container.id}" in own
    container.remove(force=True)
    assert container.id not in engine.names(engine.cgroups() / "outer/inner")


def test_the_cgroup_seen_inside_is_the_containers_own(make: Make) -> None:
    assert output(make("cat", "/proc/self/cgroup")).splitlines()[-1] == "0::/"
    text = output(make("cat", "/proc/self/cgroup", cgroupns="host"))
    assert "0::/cove/" in text
