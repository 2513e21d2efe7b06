"""The applications in tests/e2e/apps, whole: `cove compose` runs them in the VM, and they answer on this computer's localhost.

Their images are built by an engine on this computer and loaded. COVE_TEST_BUILD_APPS=1 has the VM build them, with the base image,
which under emulation takes half an hour.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from app_images import APPLICATIONS, APPS, compose_program
from machine_support import Machine

pytestmark = [pytest.mark.vm, pytest.mark.timeout(6000 if os.environ.get("COVE_TEST_BUILD_APPS") else 1500)]

PATIENCE_S = 180


class Application:
    """One of them, with ports of its own on this computer."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.name = name
        self.port = free_port(socket.SOCK_STREAM)
        self.udp_port = free_port(socket.SOCK_DGRAM)
        self._machine = machine

    def __call__(self, *words: str) -> str:
        """`cove compose` with these words."""
        environment = self._machine.environment
        environment |= {"PORT": str(self.port), "UDP_PORT": str(self.udp_port)}
        return self._machine.cove("compose", "--project-directory", str(APPS / self.name), *words, timeout_s=600).stdout

    def up(self, *words: str) -> None:
        self("up", "--detach", "--wait", "--no-build", "--quiet-pull", *words)

    def get(self, path: str = "", **form: str) -> str:
        """What it answers; with a form it is sent one."""
        data = urlencode(form).encode() if form else None
        with urlopen(f"http://localhost:{self.port}/{path}", data, timeout=60) as answer:
            return str(answer.read().decode())


_ports = iter(range(18500, 18600))
"""None that the kernel gives to somebody who connects while the machine is away."""


def free_port(kind: int) -> int:
    """One that stays the same when the machine is started again."""
    for port in _ports:
        with socket.socket(socket.AF_INET, kind) as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    pytest.fail("no port is free")


def eventually(look: Callable[[], Any], wanted: Callable[[Any], bool] = bool) -> Any:
    """What `look` finds once it is what is wanted; it may fail until then."""
    deadline, found = time.monotonic() + PATIENCE_S, None
    while time.monotonic() < deadline:
        try:
            found = look()
            if wanted(found):
                return found
        except (OSError, URLError) as error:
            found = error
        time.sleep(0.5)
    pytest.fail(f"not within {PATIENCE_S} s; last: {found}")


def acknowledged(port: int, line: str) -> int:
    """The number of a line that was sent by UDP. A datagram may be lost, so it is sent again, as senders do."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(10)
        sender.connect(("127.0.0.1", port))
        for _ in range(6):
            try:
                sender.send(line.encode())
                return int(sender.recv(100))
            except OSError:
                time.sleep(0.5)
    pytest.fail(f"no answer to {line}")


@pytest.fixture(scope="module")
def applications(machine: Machine, images: None) -> Iterator[dict[str, Application]]:
    config = Path(machine.environment["DOCKER_CONFIG"])
    plugins = config / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    plugin = plugins / "docker-compose"
    plugin.symlink_to(compose_program())
    made = {name: Application(machine, name) for name in APPLICATIONS}
    try:
        with ThreadPoolExecutor() as pool:  # what starts waits for the next look at its health, too
            list(pool.map(lambda one: one.up(*(["--scale", "web=3"] if one.name == "balanced" else [])), made.values()))
        yield made
    finally:
        for one in made.values():
            one("--profile", "*", "down", "--volumes", "--timeout", "1", "--rmi", "all")
        plugin.unlink()


def test_a_web_service_with_a_database_and_a_cache(applications: dict[str, Application]) -> None:
    notes = applications["notes"]
    assert json.loads(notes.get("notes", text="buy milk")) == {"id": 1}
    assert json.loads(notes.get("notes", text="überall ☕")) == {"id": 2}
    assert json.loads(notes.get("notes")) == {"notes": ["buy milk", "überall ☕"], "read": 1}
    assert json.loads(notes.get("notes"))["read"] == 2
    limits = notes("exec", "-T", "cache", "sh", "-c", "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max")
    assert limits.split() == [str(256 << 20), "150000", "100000", "100"]
    states = [json.loads(line) for line in notes("ps", "--format", "json").splitlines()]
    assert {one["Service"]: one["Health"] for one in states} == dict.fromkeys(("web", "database", "cache"), "healthy")
    notes("down")
    with pytest.raises(URLError):
        notes.get("notes")
    notes.up()
    assert json.loads(notes.get("notes")) == {"notes": ["buy milk", "überall ☕"], "read": 1}


def test_a_proxy_finds_all_replicas_by_the_service_s_name(applications: dict[str, Application]) -> None:
    balanced = applications["balanced"]

    def answering(requests: int = 12) -> set[str]:
        return {balanced.get() for _ in range(requests)}

    assert len(eventually(answering, lambda names: len(names) == 3)) == 3
    balanced("scale", "web=2")
    assert len(eventually(answering, lambda names: len(names) == 2)) == 2


def test_datagrams_from_this_computer_and_from_a_container(applications: dict[str, Application]) -> None:
    log = applications["udp-log"]
    first = acknowledged(log.udp_port, "<14>from the host")
    assert acknowledged(log.udp_port, "<14>" + "x" * 1400) > first
    assert log("run", "--rm", "--quiet-pull", "-T", "sender").startswith("line ")
    lines = log.get().splitlines()
    assert {"<14>from the host", "<14>" + "x" * 1400, "<14>from another container"} <= set(lines)


def test_all_of_them_go_on_when_the_machine_was_stopped_and_started(
    machine: Machine, applications: dict[str, Application]
) -> None:
    notes, balanced, log = (applications[name] for name in ("notes", "balanced", "udp-log"))
    notes.get("notes", text="kept")
    before, lines = json.loads(notes.get("notes"))["notes"], log.get()
    machine.cove("machine", "stop", timeout_s=180)
    with pytest.raises(URLError):
        notes.get("notes")
    machine.cove("machine", "start", timeout_s=180)
    assert json.loads(eventually(lambda: notes.get("notes")))["notes"] == before
    assert "kept" in before
    assert eventually(log.get) == lines
    assert acknowledged(log.udp_port, "<14>after the restart")
    assert len(eventually(lambda: {balanced.get() for _ in range(12)}, lambda names: len(names) == 2)) == 2
