"""Asking an agent over a real unix socket: every wait has an end, and every failure words."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cove.agent.client import NoAgent, answers, ask
from cove.agent.launch import ensure_running, start_agent
from cove.errors import AgentError, CoveError
from cove.machine.paths import MachinePaths
from cove.progress import REACHABLE, Event


@pytest.fixture
def paths(cove: Any) -> MachinePaths:
    made: MachinePaths = cove.make()
    return made


Agent = Callable[[Callable[[socket.socket, bytes], None]], None]


@pytest.fixture
def agent(paths: MachinePaths) -> Iterator[Agent]:
    """An agent that does with the question what the test says."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(paths.agent_socket))
    listener.listen()

    def start(behave: Callable[[socket.socket, bytes], None]) -> None:
        def serve() -> None:
            client, _ = listener.accept()
            with client, contextlib.suppress(BrokenPipeError):
                behave(client, client.makefile("rb").readline())

        threading.Thread(target=serve, daemon=True).start()

    yield start
    listener.close()


def lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def test_events_are_reported_and_the_last_line_is_the_answer(paths: MachinePaths, agent: Agent) -> None:
    heard: list[bytes] = []

    def behave(client: socket.socket, question: bytes) -> None:
        heard.append(question)
        events = [Event("boot", "waiting"), Event("image", "packages", 5, 10, "a detail")]
        client.sendall(lines(*({"event": event.to_json()} for event in events), {"done": True, "state": "running"}))

    agent(behave)
    events: list[Event] = []
    assert ask(paths, "status", 5, events.append)["state"] == "running"
    assert json.loads(heard[0]) == {"op": "status"}
    assert events == [Event("boot", "waiting"), Event("image", "packages", 5, 10, "a detail")]


def test_the_agents_error_is_raised_with_its_hint(paths: MachinePaths, agent: Agent) -> None:
    agent(lambda client, _: client.sendall(lines({"done": True, "error": "QEMU is not there", "hint": "install it"})))
    with pytest.raises(CoveError) as error:
        ask(paths, "ready", 5)
    assert (error.value.message, error.value.hint) == ("QEMU is not there", "install it")


def test_an_agent_that_is_silent_is_given_up_in_time(paths: MachinePaths, agent: Agent) -> None:
    over = threading.Event()
    agent(lambda *_: (over.wait(100), None)[1])
    begin = time.monotonic()
    with pytest.raises(AgentError, match=r"did not answer within") as error:
        ask(paths, "status", 0.2)
    over.set()
    assert time.monotonic() - begin < 60
    assert str(paths.agent_log) in error.value.hint


def test_an_agent_that_does_not_give_up_is_not_waited_for_as_for_a_start(
    paths: MachinePaths, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def behave(client: socket.socket, _: bytes) -> None:
        client.sendall(lines({"event": Event("boot", "waiting").to_json()}))
        over.wait(10)

    def interrupt(_: Event) -> None:
        raise KeyboardInterrupt

    agent(behave)
    monkeypatch.setattr("cove.agent.client.GIVE_UP_S", 1)
    with pytest.raises(AgentError, match="did not answer within 1 s"):
        ask(paths, "ready", 240, interrupt)
    over.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\n",
        b"[]\n",
        b"5\n",
        b'"done"\n',
        b'{"event": {}}\n',
        b'{"event": 3}\n',
        b"\xff\xfe\n",
        b"x" * (1 << 21),
    ],
)
def test_an_agent_that_talks_nonsense_is_an_error_not_a_crash(paths: MachinePaths, agent: Agent, answer: bytes) -> None:
    agent(lambda client, _: client.sendall(answer))
    with pytest.raises(AgentError):
        ask(paths, "status", 5)


@pytest.mark.parametrize("answer", [b"", lines({"event": Event("boot", "waiting").to_json()})])
def test_an_agent_that_ends_before_it_has_answered_is_no_agent(
    paths: MachinePaths, agent: Agent, answer: bytes
) -> None:
    agent(lambda client, _: client.sendall(answer))
    with pytest.raises(NoAgent, match="has ended"):
        ask(paths, "ready", 5)


def test_without_an_agent_there_is_a_way_out(paths: MachinePaths) -> None:
    assert not answers(paths)
    with pytest.raises(NoAgent, match="the machine default is not running") as error:
        ask(paths, "status", 5)
    assert "cove machine start default" in error.value.hint


def test_the_socket_of_a_dead_agent_is_no_agent_and_the_next_one_takes_its_place(
    paths: MachinePaths, cove: Any
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(paths.agent_socket))  # closed without being removed, as a kill leaves it
    assert paths.agent_socket.exists()
    assert not answers(paths)
    with pytest.raises(NoAgent):
        ask(paths, "status", 5)
    start_agent(paths)
    assert answers(paths)
    ask(paths, "ready", 30)
    assert ask(paths, "status", 5)["state"] == "running"
    start_agent(paths)  # another one is not started
    assert ask(paths, "status", 5)["agent_pid"] == cove.status()["agent_pid"]


def test_the_agents_socket_is_for_its_user_alone(paths: MachinePaths) -> None:
    start_agent(paths)
    assert paths.agent_socket.stat().st_mode & 0o777 == 0o600
    assert paths.run_dir.stat().st_mode & 0o777 == 0o700


def test_questions_that_are_none_do_the_agent_no_harm(paths: MachinePaths) -> None:
    start_agent(paths)
    ask(paths, "ready", 30)
    questions = (
        b"",
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"5\n",
        b"null\n",
        b'{"op": [1]}\n',
        b"\xff\n",
        b"x" * 200_000,
        b'{"op":',
    )
    for question in questions:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(paths.agent_socket))
            try:
                client.sendall(question)
                client.shutdown(socket.SHUT_WR)
                said = client.recv(1 << 16)
            except (BrokenPipeError, ConnectionResetError):
                said = b""  # it hung up on too much
        assert said == b"" or "unknown request" in json.loads(said)["error"], question
    assert ask(paths, "status", 5)["state"] == "running"


def test_those_who_wait_for_a_start_all_hear_its_end(paths: MachinePaths, cove: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COVE_FAKE", "refuse")
    words = [sys.executable, "-m", "cove", "machine", "start"]
    waiting = [
        subprocess.Popen(words, env=os.environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in waiting:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "QEMU did not start: qemu: -m: the fake was told to refuse" in errors


def test_a_machine_that_is_being_stopped_is_not_ready(paths: MachinePaths, cove: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COVE_FAKE", "no-shutdown no-button no-quit")
    start_agent(paths)
    ask(paths, "ready", 30)
    stopping = cove.spawn("machine", "stop")
    try:
        while ask(paths, "status", 5)["state"] != "stopping":
            time.sleep(0.01)
        with pytest.raises(CoveError, match="is being stopped"):
            ask(paths, "ready", 5)
    finally:
        stopping.kill()
        stopping.communicate()
        os.kill(ask(paths, "status", 5)["agent_pid"], signal.SIGKILL)


def test_who_needs_only_ssh_does_not_wait_for_an_engine_that_does_not_come(
    paths: MachinePaths, cove: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COVE_FAKE", "silent")
    for _ in range(2):  # who comes later is told at once
        shown: list[Event] = []
        ensure_running(paths.name, shown.append, engine=False)
        assert REACHABLE not in {event.phase for event in shown}
        status = ask(paths, "status", 5)
        assert status["state"] == "starting"
        assert status["ssh_port"] > 0
