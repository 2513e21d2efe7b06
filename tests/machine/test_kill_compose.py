"""Engine and agent are killed amid `docker compose up` and `down`, at random moments: nothing is left behind.

The long form: ``COVE_COMPOSE_KILLS=100 COVE_KILL_SEED=7 pytest tests/machine/test_kill_compose.py -s``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import port_support as server
import pytest

ROUNDS = int(os.environ.get("COVE_COMPOSE_KILLS", "3"))
SEED = int(os.environ.get("COVE_KILL_SEED", "1"))

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300 + 120 * ROUNDS)]

PORTS = range(18400, 18406)
PROJECT = """
services:
  web:
    image: busybox
    command: [sh, -c, "echo $$(cat /data/kept) > /index.html; httpd -f -p 80 -h /"]
    ports: ["18400:80", "18401-18403:81-83", "18404:84/udp", "[::1]:18405:80"]
    networks: [front, back]
    volumes: ["data:/data"]
    stop_signal: KILL
    depends_on: [store]
  store:
    image: busybox
    command: [sleep, "1000"]
    networks: {back: {aliases: [db]}}
    stop_signal: KILL
networks: {front: {}, back: {}}
volumes: {data: {external: true, name: killed_data}}
"""
LOOK = """
cd /sys/class/net; ls -d veth* br-* 2>/dev/null
ls /run/cove/netns /run/cove/sandboxes /run/cove/shims
nft list ruleset | grep -E 'elements|br-' | grep -v docker0 | grep -v 172.17.0.0
"""
"""What networks, their containers and ports leave in the VM, and none of what it always has."""


@pytest.fixture
def compose(machine: Any, tmp_path: Path) -> Iterator[list[str]]:
    from debian_files import compose_program

    (tmp_path / "compose.yaml").write_text(PROJECT)
    machine.docker("run", "--rm", "-v", "killed_data:/data", "busybox", "sh", "-c", "echo precious > /data/kept; sync")
    words = [str(compose_program()), "-p", "killed", "-f", str(tmp_path / "compose.yaml")]
    yield words
    run(machine, [*words, "down"])
    machine.docker("volume", "rm", "killed_data")


def run(machine: Any, words: list[str]) -> subprocess.CompletedProcess[str]:
    return begin(machine, words, wait=True)


def begin(machine: Any, words: list[str], wait: bool = False) -> Any:
    options: Any = {
        "env": {**machine.environment, "DOCKER_HOST": machine.docker_host}, "stdin": subprocess.DEVNULL, "text": True,
    }  # fmt: skip
    if wait:
        return subprocess.run(words, capture_output=True, timeout=180, **options)
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)


class Arm:
    """Kills at a word, and not some time later: all that takes time is done before."""

    def __init__(self, machine: Any, what: str) -> None:
        self._pid = 0
        self._ssh: subprocess.Popen[str] | None = None
        if what == "agent":
            self._pid = json.loads(machine.cove("machine", "status", "--json").stdout)["agent_pid"]
            return
        script = "cd /proc; pid=$(grep -lx cove-engine [0-9]*/comm | cut -d / -f 1); echo armed; read word; kill -9 $pid; echo killed"
        self._ssh = subprocess.Popen(
            [sys.executable, "-m", "cove", "machine", "ssh", script], env=machine.environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._answer() == "armed"

    def kill(self) -> None:
        if self._ssh is None:
            os.kill(self._pid, signal.SIGKILL)
            return
        assert self._ssh.stdin is not None
        print("now", file=self._ssh.stdin, flush=True)
        assert self._answer() == "killed"
        self._ssh.communicate(timeout=60)

    def _answer(self) -> str:
        assert self._ssh is not None
        assert self._ssh.stdout is not None
        return self._ssh.stdout.readline().strip()


def hit(machine: Any, words: list[str], within_s: float, dice: random.Random, kills: Counter[str]) -> None:
    """Run it, and kill something meanwhile; then again, until it succeeds, as people would."""
    what = dice.choice(("engine", "agent"))
    arm = Arm(machine, what)
    moment = dice.random() * within_s
    process = begin(machine, words)
    time.sleep(moment)
    kills[f"{what}, {'amid' if process.poll() is None else 'after'} {words[5]}"] += 1
    arm.kill()
    process.wait(180)
    for _ in range(3):
        # An agent that dies three times in a minute is not started again but by a command of Cove's (decisions/0024).
        machine.cove("ps", timeout_s=180)
        done = run(machine, words)
        if done.returncode == 0:
            return
    pytest.fail(f"{words[5]} after the {what} was killed {moment:.2f} s into it: {done.stderr}")


def left_over(machine: Any) -> str:
    return str(machine.cove("machine", "ssh", LOOK, check=False).stdout)


def test_nothing_is_left_of_a_project_whose_ups_and_downs_were_hit(machine: Any, compose: list[str]) -> None:
    before = left_over(machine)
    dice, kills = random.Random(SEED), Counter[str]()
    begun = time.monotonic()
    assert run(machine, [*compose, "up", "-d"]).returncode == 0
    begun, up_s = time.monotonic(), time.monotonic() - begun
    assert run(machine, [*compose, "down"]).returncode == 0
    down_s = time.monotonic() - begun
    for number in range(ROUNDS):
        hit(machine, [*compose, "up", "-d"], up_s, dice, kills)
        for address, port in (("127.0.0.1", 18400), ("::1", 18405)):
            assert not server.is_free(port, address)
        hit(machine, [*compose, "down"], down_s, dice, kills)
        taken = [port for port in PORTS if not (server.is_free(port) and server.is_free(port, "::1"))]
        assert taken == [], f"round {number}"
        assert machine.docker("ps", "-aq", "--filter", "label=com.docker.compose.project=killed").stdout == ""
        # What the next start of the engine would tidy up counts as left, but for what it does beside its answers.
        deadline = time.monotonic() + 20
        while (left := left_over(machine)) != before:
            assert time.monotonic() < deadline, f"round {number}: {left}\nbefore: {before}"
            time.sleep(0.5)
    kept = machine.docker("run", "--rm", "-v", "killed_data:/data", "busybox", "cat", "/data/kept").stdout
    assert kept == "precious\n"
    print(f"\n{ROUNDS} rounds: {dict(kills)}")
