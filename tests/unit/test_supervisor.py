"""The engine's supervisor: who follows whom, what is passed on, and who may have the socket. The real one, with small engines."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from coved.errors import Conflict
from coved.store.claim import claim
from coved.supervisor import Door

_PROGRAM = """
import logging, os, socket, sys, threading, time
from pathlib import Path
from coved.supervisor import Door, supervise
logging.basicConfig(format="%(message)s")
door = Door(Path(sys.argv[1]))
def engine():
    print("engine", os.getpid(), flush=True)
    door.listener.setblocking(True)
    exec(sys.argv[2])
    return 0
status = supervise(engine, door.renew, Path(sys.argv[1]).with_name("said").write_text)
door.remove()
sys.exit(status)
"""
ANSWER = "while True: door.listener.accept()[0].sendall(b'%d' % os.getpid())"

Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "docker.sock"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    made: list[subprocess.Popen[str]] = []

    def begin(engine: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", _PROGRAM, str(path), engine]
        made.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return made[-1]

    yield begin
    for one in made:
        one.kill()
        one.communicate(timeout=10)


def engine_of(supervisor: subprocess.Popen[str]) -> int:
    """The next engine's pid."""
    assert supervisor.stdout is not None
    return int(supervisor.stdout.readline().removeprefix("engine"))


def ask(path: Path) -> int:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        return int(client.recv(100))


def await_end(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(10_000)
    os.close(pidfd)


def test_a_killed_engine_is_followed_and_nobody_is_refused(start: Start, path: Path) -> None:
    supervisor = start(ANSWER)
    first = engine_of(supervisor)
    assert ask(path) == first
    died = os.pidfd_open(first)
    os.kill(first, signal.SIGKILL)
    await_end(died)  # until then it may still take a client
    second = ask(path)
    assert second == engine_of(supervisor) != first
    assert supervisor.stderr is not None
    assert supervisor.stderr.readline() == "the engine has died (SIGKILL); here is another in 0.1 s\n"
    assert path.with_name("said").read_text() == "the engine has died (SIGKILL)"


def test_the_socket_is_there_again_when_somebody_removed_it(start: Start, path: Path) -> None:
    supervisor = start(ANSWER)
    first = engine_of(supervisor)
    path.unlink()
    os.kill(first, signal.SIGKILL)
    assert engine_of(supervisor) == ask(path)


def test_one_that_dies_again_and_again_is_followed_more_slowly(start: Start, tmp_path: Path) -> None:
    count = tmp_path / "count"
    begun = time.monotonic()
    supervisor = start(
        f"count = Path('{count}'); n = count.read_text() if count.exists() else ''; count.write_text(n + 'x')\n"
        "if n == 'xxxx': threading.Event().wait()\nif n: os._exit(3)\nos.kill(os.getpid(), 9)"
    )
    for _ in range(4):
        engine_of(supervisor)
    assert time.monotonic() - begun > 0.1 + 0.2 + 0.4
    assert supervisor.stderr is not None
    told = [supervisor.stderr.readline() for _ in range(4)]
    assert told[0].startswith("the engine has died (SIGKILL); here is another in 0.1 s")
    assert told[1].startswith("the engine has died (exit status 3); here is another in 0.2 s")
    assert told[3].startswith("the engine has died (exit status 3); here is another in 0.8 s")
    supervisor.send_signal(signal.SIGTERM)  # while it waits, or the next is there by now, which ends by nothing else
    assert supervisor.wait(10) in (0, 128 + signal.SIGTERM)


def test_one_that_is_killed_again_and_again_is_back_within_a_second(start: Start) -> None:
    supervisor = start("os.kill(os.getpid(), 9)")
    assert supervisor.stderr is not None
    told = [supervisor.stderr.readline().rpartition(" in ")[2] for _ in range(6)]
    assert told == ["0.1 s\n", *["0.2 s\n"] * 5]


def test_one_that_cannot_start_is_not_followed(start: Start, path: Path) -> None:
    supervisor = start("os._exit(3)")
    assert supervisor.wait(10) == 3
    assert not path.exists()


def test_an_end_of_its_own_is_the_end(start: Start, path: Path) -> None:
    assert start("pass").wait(10) == 0
    assert not path.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_order_to_end_is_passed_on_and_waited_for(start: Start, number: signal.Signals) -> None:
    supervisor = start(
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, (1, 2, 15))\nprint('waits', flush=True)\n"
        "print('told', int(signal.sigwait((1, 2, 15))), flush=True)\nos._exit(5)"
    )
    engine_of(supervisor)
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == "waits\n"
    supervisor.send_signal(number)
    assert supervisor.stdout.readline() == f"told {int(number)}\n"
    assert supervisor.wait(10) == 5  # and nobody follows


def test_a_hangup_that_is_ignored_is_no_order_to_end(path: Path, start: Start) -> None:
    """As under nohup(1)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        supervisor = start(ANSWER)
    finally:
        signal.signal(signal.SIGHUP, before)
    first = engine_of(supervisor)
    supervisor.send_signal(signal.SIGHUP)
    os.kill(first, signal.SIGHUP)
    assert ask(path) == first
    os.kill(first, signal.SIGKILL)
    assert engine_of(supervisor) != first


def test_an_engine_ends_with_its_supervisor_and_the_data_is_free(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = start(
        f"from coved.store.claim import claim\nclaim(Path('{tmp_path}'))\nprint('claimed', flush=True)\n{ANSWER}"
    )
    engine = os.pidfd_open(engine_of(supervisor))
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == "claimed\n"
    monkeypatch.setattr("coved.store.claim.PATIENCE_S", 0.2)
    with pytest.raises(Conflict, match="another engine uses"):
        claim(tmp_path)
    monkeypatch.setattr("coved.store.claim.PATIENCE_S", 60.0)  # on a computer that stands still for a while, too
    supervisor.kill()
    os.close(claim(tmp_path))  # it waits for the engine's end
    await_end(engine)


def test_a_dead_engines_socket_is_replaced_and_a_live_ones_is_not(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(path))
    door = Door(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict, match="another engine answers there"):
        Door(path)
    door.remove()
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(Conflict, match="a file of that name that is no socket"):
        Door(path)
    assert path.read_text() == "precious"
