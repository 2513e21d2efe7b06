"""Trouble that a machine's user meets, on a real VM: ports of others, a QEMU that dies, an agent that is gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


def status(machine: Any) -> dict[str, Any]:
    machine.cove("ps")  # starts what an earlier test has killed
    return dict(json.loads(machine.cove("machine", "status", "--json").stdout))


def lives(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_port_of_another_program_is_refused_and_the_program_named(machine: Any) -> None:
    port = 18091  # none that the kernel gives to somebody else when it is free again
    with socket.create_server(("127.0.0.1", port)):
        done = machine.docker("run", "--rm", "-p", f"127.0.0.1:{port}:80", "busybox", "true", check=False)
    assert done.returncode == 125
    assert f"listen tcp4 127.0.0.1:{port}: bind: address already in use" in done.stderr
    assert f"(process {os.getpid()}) has it" in done.stderr
    machine.docker("run", "--rm", "-p", f"127.0.0.1:{port}:80", "busybox", "true")


def test_an_address_of_another_computer_is_refused_in_dockers_words(machine: Any) -> None:
    done = machine.docker("run", "--rm", "-p", "192.0.2.1:18090:80", "busybox", "true", check=False)
    assert done.returncode == 125
    assert "listen tcp4 192.0.2.1:18090: bind: cannot assign requested address" in done.stderr


def test_without_its_agent_the_machine_is_still_said_to_run(machine: Any) -> None:
    before = status(machine)
    os.killpg(os.getpgid(before["agent_pid"]), signal.SIGKILL)  # and the supervisor that would start it again
    told = json.loads(machine.cove("machine", "status", "--json").stdout)
    assert (told["state"], told["agent_pid"], told["boot_id"]) == ("running", None, before["boot_id"])
    done = machine.cove("machine", "rm", check=False)
    assert done.returncode == 1
    assert "the machine default is running" in done.stderr
    assert status(machine)["boot_id"] == before["boot_id"]


def test_a_qemu_that_dies_is_seen_in_the_next_status(machine: Any) -> None:
    before = status(machine)
    os.kill(before["pid"], signal.SIGSEGV)
    while lives(before["pid"]):
        time.sleep(0.01)  # a core of two gigabytes may take its time
    told = json.loads(machine.cove("machine", "status", "--json").stdout)
    assert told["state"] == "stopped"
    assert told["crash"]["how"].startswith("QEMU ")
    assert told["crash"]["words"]
    assert "crash" not in status(machine)


def test_a_stopped_machine_has_not_crashed(machine: Any) -> None:
    machine.cove("machine", "stop", timeout_s=180)
    told = json.loads(machine.cove("machine", "status", "--json").stdout)
    assert told["state"] == "stopped"
    assert "crash" not in told
    machine.cove("machine", "start", timeout_s=180)  # the machine is everybody's


def test_a_boot_compiles_nothing_that_an_earlier_one_has(machine: Any) -> None:
    machine.cove("ps")
    machine.cove("machine", "restart", timeout_s=300)
    newer = "find /var/lib/cove/system/*/pycache -name '*.pyc' -newer /run/cove/seed.json | wc -l"
    assert machine.cove("machine", "ssh", newer).stdout.strip() == "0"
    # What was loaded before the machine had its disk is in the template; the rest is kept.
    assert int(machine.cove("machine", "ssh", "find /var/lib/cove/system/*/pycache -name '*.pyc' | wc -l").stdout) > 0
