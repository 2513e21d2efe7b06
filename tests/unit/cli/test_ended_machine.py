"""A machine that ends under a command: what happened, to what, and what next; and the command does not start it again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cove.cli import ended
from cove.machine import crashes, lifecycle
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from test_lost_engine import CONTAINER, ENDLESS, HIJACKED, ID, Engine, answer
from told_engine import COVE

RUN = {
    "boot_id": "x", "ssh_port": 1, "image": "i", "accelerator": "tcg", "accelerator_reason": "", "qemu_version": "9",
    "cpus": 1, "memory": 1,
}  # fmt: skip


class Machine:
    """One that runs, as far as its files tell, until `end`."""

    def __init__(self, paths: MachinePaths) -> None:
        self.paths = paths
        self.engine = Engine(paths.docker_socket)
        self._vm = FileLock(paths.vm_lock)
        assert self._vm.try_acquire()
        paths.run_state.write_text(json.dumps({**RUN, "started_at": time.time()}))

    def end(self) -> None:
        self._vm.release()

    def crash(self) -> None:
        self.end()
        crashes.note(self.paths, "VM", "QEMU was killed by SIGKILL", ["the guest is up"], "x")

    def stop(self) -> None:
        self.end()
        self.paths.run_state.unlink()

    def suspend(self) -> None:
        self.end()
        self.paths.suspended_run.write_text("{}")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    home = Path(tempfile.mkdtemp(prefix="cove-e", dir="/tmp"))  # short, for the paths of sockets
    monkeypatch.setenv("COVE_HOME", str(home))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    for name in ("COVE_HOST", "COVE_MACHINE"):
        monkeypatch.delenv(name, raising=False)
    made = Machine(lifecycle.init("default"))
    yield made
    made.engine.close()
    made.end()
    shutil.rmtree(home)


def cove(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COVE, *words], env=os.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


CRASHED = [
    "the VM of machine default ended by itself: QEMU was killed by SIGKILL (the guest is up)",
    "its containers have ended with it; the next command boots it again, and those with a restart policy come back",
    "what it said: cove machine logs default",
]


def under(machine: Machine, how: Callable[[], None], data: bytes) -> Callable[[], bytes]:
    """The answer of an engine under which the machine ends."""

    def ending() -> bytes:
        how()
        return data

    return ending


def test_logs_that_are_followed(machine: Machine) -> None:
    machine.engine.answers |= {
        "GET /containers/c/json": answer(CONTAINER),
        "GET /containers/c/logs": under(machine, machine.crash, ENDLESS),
    }
    done = cove("logs", "-f", "c")
    assert done.returncode == 1
    first = "the engine closed the connection in the middle of an answer"
    assert done.stderr == "\n      ".join([first, *CRASHED]) + "\n"


def test_a_container_that_is_held(machine: Machine) -> None:
    machine.engine.answers |= {
        "POST /containers/create": answer({"Id": ID}),
        f"POST /containers/{ID}/attach": HIJACKED,
        f"POST /containers/{ID}/wait": ENDLESS,
        f"POST /containers/{ID}/start": under(machine, machine.crash, answer({})),
    }
    done = cove("run", "x")
    assert (done.returncode, done.stdout) == (125, "hi\n")
    first = "error waiting for container: the engine closed the connection in the middle of an answer"
    assert done.stderr == "\n      ".join([first, *CRASHED]) + "\n"


def test_a_first_request_that_the_agent_answers_in_the_engines_place(machine: Machine) -> None:
    body = b'{"message": "the machine default or its engine ended before it answered"}'
    lost = b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    machine.engine.answers |= {"GET /containers/json": under(machine, machine.crash, lost)}
    done = cove("ps")
    assert done.returncode == 1
    first = f"the engine at {machine.paths.docker_socket} closed the connection"
    assert done.stderr == "\n      ".join([first, *CRASHED]) + "\n"


def test_an_exec_does_not_start_it_again(machine: Machine) -> None:
    machine.engine.answers |= {
        "GET /containers/c/json": answer(CONTAINER),
        "POST /containers/c/exec": answer({"Id": "e1"}),
        "POST /exec/e1/start": under(machine, machine.crash, HIJACKED),
    }
    done = cove("exec", "c", "x")
    assert (done.returncode, done.stdout) == (255, "hi\n")
    assert done.stderr == "\n      ".join(["the connection to the command has ended", *CRASHED]) + "\n"
    assert "GET /exec/e1/json" not in machine.engine.asked


def test_one_that_was_stopped_or_suspended_meanwhile(machine: Machine) -> None:
    machine.stop()
    assert ended.told("default") == [
        "the machine default was stopped meanwhile, and its containers with it; start it again with: cove machine start default"
    ]
    machine.suspend()
    assert ended.told("default") == [
        "the machine default was suspended meanwhile; its containers go on with the next command"
    ]


def test_one_whose_agent_died_with_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended, "PATIENCE_S", 0.0)
    machine.paths.console_log.write_text("the kernel booted\n")
    machine.end()
    assert ended.told("default")[0] == "the VM of machine default ended by itself: QEMU ended (the kernel booted)"


def test_one_that_goes_on_is_not_spoken_of(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended, "PATIENCE_S", 0.0)
    crashes.note(machine.paths, "VM", "QEMU ended", [], "an earlier one", time.time() - ended.RECENT_S - 1)
    assert ended.told("default") == []
    assert ended.told(None) == []
    assert not ended.has_ended("default")
