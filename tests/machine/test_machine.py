"""The machine as its user sees it: status, ports on localhost, and what happens when parts of it are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


@pytest.fixture
def page(machine: Any) -> Iterator[str]:
    """A container's page on localhost."""
    machine.docker("run", "-d", "--name", "page", "-p", "127.0.0.1:18081:80", "cove/starter")
    # `run` returns when the port leads to the container; its server may still be at its first instruction.
    machine.docker("exec", "page", "sh", "-c", "until wget -q -O /dev/null http://127.0.0.1/; do :; done")
    yield "http://127.0.0.1:18081/"
    machine.docker("rm", "-f", "page")


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as response:
        return str(response.read().decode())


def status(machine: Any) -> dict[str, Any]:
    return dict(json.loads(machine.cove("machine", "status", "--json").stdout))


def eventually(holds: Callable[[], bool], timeout_s: float = 30) -> None:
    """For what no event tells: look until it holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.2)


def lives(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_status_tells_what_runs_and_why(machine: Any) -> None:
    told = status(machine)
    assert told["state"] == "running"
    assert told["accelerator"] in ("kvm", "tcg")
    assert told["accelerator"] == "kvm" or told["accelerator_reason"]
    assert told["engine_version"]
    assert told["uptime_seconds"] > 0


def test_the_docker_cli_the_sdk_and_cove_agree(machine: Any) -> None:
    client = docker.DockerClient(machine.docker_host, timeout=60)
    assert client.containers.run("busybox", "echo hi", remove=True) == b"hi\n"
    client.close()
    for told in (machine.docker, machine.cove):
        assert told("run", "--rm", "busybox", "echo", "hi").stdout == "hi\n"
        assert told("run", "--rm", "busybox", "sh", "-c", "exit 5", check=False).returncode == 5


def test_the_docker_socket_is_for_its_user_alone(machine: Any) -> None:
    assert (machine.home / "run/default/docker.sock").stat().st_mode & 0o777 == 0o600


def test_the_docker_context_leads_to_the_machine(machine: Any) -> None:
    done = subprocess.run(
        ["docker", "--context", "cove", "version", "--format", "{{.Server.APIVersion}}"],
        env=machine.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "1.51", done.stderr


def test_its_docker_socket_is_the_engines_in_containers_by_whatever_path(machine: Any) -> None:
    """Programs bind it by the path by which they reach it here: the context's, and that of a link where Docker Desktop has its own."""
    link = Path(machine.environment["HOME"], ".docker/run/docker.sock")
    own = machine.home / "run/default/docker.sock"
    assert link.readlink() == own
    binds = [word for path in (own, link, "/var/run/docker.sock") for word in ("-v", f"{path}:{path}")]
    paths = [str(own), str(link), "/var/run/docker.sock"]
    told = machine.docker("run", "--rm", *binds, "busybox", "stat", "-c", "%F %d:%i", *paths).stdout.splitlines()
    assert len(told) == 3 and len({*told}) == 1
    assert told[0].startswith("socket ")


def test_a_published_port_answers_on_localhost(page: str) -> None:
    assert "Cove works" in fetch(page)


def test_a_port_in_use_is_refused_in_dockers_words(machine: Any, page: str) -> None:
    done = machine.docker("run", "--rm", "-p", "127.0.0.1:18081:80", "busybox", "true", check=False)
    assert done.returncode == 125
    assert "Bind for 127.0.0.1:18081 failed: port is already allocated (container page has it)" in done.stderr


def test_containers_get_out_and_have_names(machine: Any) -> None:
    assert machine.docker("run", "--rm", "busybox", "ping", "-c", "1", "-W", "5", "10.0.2.2").returncode == 0
    assert "nameserver 10.0.2.3" in machine.docker("run", "--rm", "busybox", "cat", "/etc/resolv.conf").stdout


def test_limits_are_the_kernels(machine: Any) -> None:
    script = "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max"
    done = machine.docker(
        "run", "--rm", "-m", "64m", "--cpus", "0.5", "--pids-limit", "20", "busybox", "sh", "-c", script
    )
    assert done.stdout.split() == ["67108864", "50000", "100000", "20"]


def test_a_killed_engine_comes_back_and_containers_go_on(machine: Any, page: str) -> None:
    engine = "$(cd /proc; grep -lx cove-engine [0-9]*/comm | cut -d / -f 1)"
    machine.cove("machine", "ssh", f"kill -9 {engine}")
    assert "page" in machine.cove("ps", timeout_s=60).stdout
    assert "Cove works" in fetch(page)


def test_a_killed_agent_finds_the_running_machine_again(machine: Any, page: str) -> None:
    before = status(machine)
    os.kill(before["agent_pid"], signal.SIGKILL)
    eventually(lambda: not lives(before["agent_pid"]))
    assert "page" in machine.docker("ps").stdout  # and no command of Cove's before it
    after = status(machine)
    assert after["agent_pid"] != before["agent_pid"]
    assert after["pid"] == before["pid"]
    assert after["boot_id"] == before["boot_id"]
    assert "Cove works" in fetch(page)


def test_a_killed_qemu_is_booted_again_and_nothing_durable_is_lost(machine: Any) -> None:
    machine.docker("volume", "create", "kept")
    machine.docker("run", "--rm", "-v", "kept:/data", "busybox", "sh", "-c", "echo precious > /data/file; sync")
    before = status(machine)
    os.kill(before["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while json.loads(machine.cove("machine", "status", "--json").stdout)["state"] != "stopped":
        assert time.monotonic() < deadline
    done = machine.cove("run", "--rm", "-v", "kept:/data", "busybox", "cat", "/data/file", timeout_s=180)
    assert done.stdout == "precious\n"
    assert "Cove is starting its machine" in done.stderr
    assert status(machine)["boot_id"] != before["boot_id"]
    machine.docker("volume", "rm", "kept")


def test_dockers_own_client_boots_a_machine_whose_qemu_was_killed(machine: Any) -> None:
    machine.docker("run", "-d", "--name", "stays", "--restart", "always", "busybox", "sleep", "1000")
    before = status(machine)
    os.kill(before["pid"], signal.SIGKILL)
    eventually(lambda: not lives(before["pid"]))
    assert "stays" in machine.docker("ps", "-a", timeout_s=180).stdout
    after = status(machine)
    assert (after["state"], after["agent_pid"]) == ("running", before["agent_pid"])
    assert after["boot_id"] != before["boot_id"]
    machine.docker("rm", "-f", "stays")


def ask_agent(machine: Any) -> dict[str, Any]:
    """Its status as the agent itself tells it, which takes less than a command does."""
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(60)
        agent.connect(str(machine.home / "run/default/agent.sock"))
        agent.sendall(b'{"op": "status"}\n')
        return dict(json.loads(agent.makefile().readline()))


@pytest.fixture
def held_start(machine: Any) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A start that cannot end, for its QEMU, whose process it is, stands still."""
    for _ in range(10):
        machine.cove("machine", "stop", timeout_s=180)
        start = subprocess.Popen(
            [sys.executable, "-m", "cove", "machine", "start"],
            env=machine.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        pid = 0
        try:
            assert start.stderr is not None
            while "waiting for the engine" not in (line := start.stderr.readline()):
                assert line
            pid = ask_agent(machine)["pid"]
            os.kill(pid, signal.SIGSTOP)
            if ask_agent(machine)["state"] == "starting":
                yield start, pid
                return
        finally:
            with contextlib.suppress(ProcessLookupError):
                if pid:
                    os.kill(pid, signal.SIGCONT)
            start.kill()
            start.wait()
    pytest.fail("each start was over before it could be held")


def test_stop_ends_a_start_that_is_under_way(machine: Any, held_start: tuple[subprocess.Popen[str], int]) -> None:
    start, pid = held_start
    stop = subprocess.Popen([sys.executable, "-m", "cove", "machine", "stop"], env=machine.environment)
    try:
        eventually(lambda: ask_agent(machine)["state"] == "stopping")
        os.kill(pid, signal.SIGCONT)
        begin = time.monotonic()
        assert stop.wait(60) == 0
        assert time.monotonic() - begin < 10
    finally:
        stop.kill()
        stop.wait()
    assert start.stderr is not None
    assert "the start of machine default was given up" in start.stderr.read()
    assert start.wait(10) == 1
    machine.cove("machine", "start", timeout_s=300)
    assert status(machine)["state"] == "running"


def test_stop_and_start_lose_nothing(machine: Any) -> None:
    machine.docker("run", "-d", "--name", "stays", "--restart", "always", "busybox", "sleep", "1000")
    machine.cove("machine", "stop", timeout_s=180)
    assert status(machine)["state"] == "stopped"
    machine.cove("machine", "start", timeout_s=180)
    # The engine answers first, and then starts what its policy wants.
    eventually(lambda: "Up" in machine.docker("ps", "--filter", "name=stays", "--format", "{{.Status}}").stdout)
    machine.docker("rm", "-f", "stays")


def test_a_larger_disk_is_there_after_a_restart(machine: Any) -> None:
    def room() -> int:
        """GiB of the data disk, as the machine's own system tells them."""
        return int(machine.cove("machine", "ssh", "df", "-k", "/var/lib/cove").stdout.split()[8]) >> 20

    machine.docker("run", "--name", "before", "busybox", "sh", "-c", "echo kept > /file; sync")
    before = room()
    machine.cove("machine", "config", "set", "disk", f"{before + 12}GiB")
    done = machine.cove("machine", "config", "set", "disk", f"{before - 10}GiB", check=False)
    assert done.returncode == 1
    assert "cannot become smaller" in done.stderr
    machine.cove("machine", "restart", timeout_s=300)
    assert room() >= before + 5
    assert machine.docker("cp", "before:/file", "-").stdout.count("kept") == 1
    machine.docker("rm", "before")
