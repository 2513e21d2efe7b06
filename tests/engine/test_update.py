"""`POST /containers/{id}/update`: what is kept, what a running container gets, and dockerd's refusals.

Limits need cgroup v2 controllers. Where a machine lacks one, dockerd's contract is a warning and a discarded limit, and
that is what is then asserted; in the VM all controllers are there, and the same tests look into the container's cgroup.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from isolation_support import controllers
from life_support import ask, events_of, restart

pytestmark = pytest.mark.root
MB = 1 << 20


def limits(engine: Any, container: Any, *files: str) -> dict[str, str]:
    """Files of a running container's cgroup, as its machine shows them."""
    container.reload()
    script = f"cd {engine.cgroups()}$(sed -n s/^0:://p /proc/{container.attrs['State']['Pid']}/cgroup) && cat {' '.join(files)}"
    return dict(zip(files, engine.sh(script).splitlines(), strict=True))


def host(container: Any, *fields: str) -> list[Any]:
    container.reload()
    return [container.attrs["HostConfig"][field] for field in fields]


LIMITS = [
    (
        "memory",
        {"Memory": 64 * MB, "MemorySwap": 96 * MB},
        {"memory.max": str(64 * MB), "memory.swap.max": str(32 * MB)},
    ),
    ("memory", {"MemoryReservation": 32 * MB}, {"memory.low": str(32 * MB)}),
    ("cpu", {"CpuQuota": 50_000, "CpuPeriod": 200_000}, {"cpu.max": "50000 200000"}),
    ("cpu", {"CpuShares": 512}, {"cpu.weight": "20"}),
    ("cpuset", {"CpusetCpus": "0"}, {"cpuset.cpus": "0"}),
    ("pids", {"PidsLimit": 33}, {"pids.max": "33"}),
]


@pytest.mark.parametrize(("controller", "wanted", "files"), LIMITS)
def test_a_running_container_gets_its_limits(
    engine: Any, docker_client: Any, name: str, controller: str, wanted: dict[str, Any], files: dict[str, str]
) -> None:
    container = docker_client.containers.run("busybox", "sleep 300", name=name, detach=True)
    with events_of(engine, container) as events:
        status, answer = ask(engine, "POST", f"/containers/{name}/update", wanted)
        assert status == 200
        events.until("update")
    if controller in controllers(engine):
        assert answer == {"Warnings": None}
        assert host(container, *wanted) == list(wanted.values())
        assert limits(engine, container, *files) == files
        # The limits are the next start's, too.
        container.restart(timeout=0)
        assert limits(engine, container, *files) == files
    else:
        assert all("iscarded." in warning for warning in answer["Warnings"])
        assert len(answer["Warnings"]) == 1
        assert not any(host(container, *(field for field in wanted if field != "MemorySwap")))


def update(engine: Any, *words: str) -> subprocess.CompletedProcess[str]:
    """By docker's own client."""
    environment = {**os.environ, "DOCKER_HOST": engine.url}
    return subprocess.run(["docker", "update", *words], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.usefixtures("limiting")
def test_limits_are_taken_away_again(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.run(
        "busybox", "sleep 600", name=name, detach=True, mem_limit="64m", pids_limit=40
    )
    done = update(engine, "--pids-limit", "-1", "--memory-swap", "-1", "--cpus", "0.5", name)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name}\n", "")
    assert limits(engine, container, "pids.max", "memory.swap.max", "memory.max", "cpu.max") == {
        "pids.max": "max", "memory.swap.max": "max", "memory.max": str(64 * MB), "cpu.max": "50000 100000",
    }  # fmt: skip


@pytest.mark.usefixtures("limiting")
def test_updates_that_do_not_go_together(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.run(
        "busybox", "sleep 600", name=name, detach=True, mem_limit="64m", nano_cpus=500_000_000
    )
    for flags, words in (
        (["--memory", "200m"], "Memory limit should be smaller than already set memoryswap limit"),
        (["--cpu-quota", "5000"], "CPU Quota cannot be updated as NanoCPUs has already been set"),
        (
            ["--memory-reservation", "80m", "--memory", "70m"],
            "Minimum memory limit can not be less than memory reservation",
        ),
    ):
        done = update(engine, *flags, name)
        assert done.returncode == 1
        assert words in done.stderr
    assert limits(engine, container, "memory.max", "memory.low") == {"memory.max": str(64 * MB), "memory.low": "0"}


def test_the_restart_policy_is_kept(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.create("busybox", "true", name=name)
    policy = {"Name": "on-failure", "MaximumRetryCount": 3}
    assert ask(engine, "POST", f"/containers/{name}/update", {"RestartPolicy": policy}) == (200, {"Warnings": None})
    restart(engine)
    assert host(container, "RestartPolicy") == [policy]
    # An update that does not name it leaves it alone.
    assert ask(engine, "POST", f"/containers/{name}/update", {})[0] == 200
    assert host(container, "RestartPolicy") == [policy]


def test_a_paused_container_can_be_updated(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.run("busybox", "sleep 300", name=name, detach=True)
    container.pause()
    policy = {"Name": "always", "MaximumRetryCount": 0}
    assert ask(engine, "POST", f"/containers/{name}/update", {"RestartPolicy": policy})[0] == 200
    container.unpause()
    assert host(container, "RestartPolicy") == [policy]


@pytest.mark.parametrize(
    ("wanted", "status", "words"),
    [
        ({"Memory": 1}, 400, "Minimum memory limit allowed is 6MB"),
        ({"NanoCpus": -1}, 400, "Range of CPUs is from 0.01 to "),
        ({"RestartPolicy": {"Name": "foo"}}, 400, "invalid restart policy: unknown policy 'foo'; use one of "),
        ({"RestartPolicy": {"Name": 5}}, 400, "invalid JSON: "),
        ({"Memory": "x"}, 400, "invalid JSON: "),
        ({"PidsLimit": True}, 400, "invalid JSON: "),
        ({"CpuShares": 1 << 70}, 400, "invalid JSON: "),
        ({"IOMaximumIOps": 1}, 400, "Invalid QoS settings: "),
    ],
)
def test_refusals(engine: Any, docker_client: Any, name: str, wanted: Any, status: int, words: str) -> None:
    container = docker_client.containers.create("busybox", "true", name=name)
    before = container.attrs["HostConfig"]
    told = ask(engine, "POST", f"/containers/{name}/update", wanted)
    assert (told[0], told[1]["message"][: len(words)]) == (status, words)
    container.reload()
    assert container.attrs["HostConfig"] == before
    # What cannot be right is told before the container is looked for, as in dockerd.
    assert ask(engine, "POST", "/containers/nosuch/update", wanted)[0] == status


def test_a_container_that_is_not_there(engine: Any) -> None:
    assert ask(engine, "POST", "/containers/nosuch/update", {}) == (404, {"message": "No such container: nosuch"})


def test_auto_remove_allows_no_policy(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.create("busybox", "true", name=name, auto_remove=True)
    told = ask(engine, "POST", f"/containers/{name}/update", {"RestartPolicy": {"Name": "always"}})
    words = "Restart policy cannot be updated because AutoRemove is enabled for the container"
    assert told == (409, {"message": f"Cannot update container {container.id}: {words}"})
    assert ask(engine, "POST", f"/containers/{name}/update", {"RestartPolicy": {"Name": "no"}})[0] == 200


def test_warnings_of_a_create_request(engine: Any, name: str) -> None:
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"CpuPercent": 5, "OomKillDisable": True}}
    status, answer = ask(engine, "POST", f"/containers/create?name={name}", body)
    assert (status, answer["Warnings"]) == (
        201,
        [
            "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
            "linux does not support CPU percent. Percent discarded.",
        ],
    )
