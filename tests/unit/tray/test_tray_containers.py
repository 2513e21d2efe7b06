"""The tray and Docker's API: asked when somebody looks, again when an event says so, and never of a machine that does not run."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cove.machine.paths import MachinePaths
from cove.tray import containers
from cove.tray.containers import Container, Following, of_api

BOUND_S = 30.0
Serve = Callable[[Callable[[socket.socket], None]], None]


class Engine:
    """Has a list of containers, and tells of events when it is told to."""

    def __init__(self) -> None:
        self.names = ["web"]
        self.asked: list[str] = []
        self.followers: queue.Queue[socket.socket] = queue.Queue()
        self.left = threading.Event()

    def __call__(self, client: socket.socket) -> None:
        target = client.recv(4096).decode().split(" ")[1]
        self.asked.append(target)
        if target.startswith("/events"):
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            self.followers.put(client)
            while client.recv(100):
                pass
            self.left.set()
            return
        rows = [{"Names": [f"/{name}"], "State": "running", "Ports": []} for name in self.names]
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(rows).encode())


@pytest.fixture
def told() -> queue.Queue[Sequence[Container]]:
    return queue.Queue()


def test_they_are_told_and_told_again_with_an_event(
    paths: MachinePaths, engine: Serve, told: queue.Queue[Sequence[Container]]
) -> None:
    made = Engine()
    engine(made)
    following = Following(paths, told.put)
    assert [each.name for each in told.get(timeout=BOUND_S)] == ["web"]
    made.names = ["new", "web"]
    made.followers.get(timeout=BOUND_S).sendall(b'{"Type": "container", "Action": "start"}\n')
    assert [each.name for each in told.get(timeout=BOUND_S)] == ["new", "web"]
    assert [target.partition("?")[0] for target in made.asked] == ["/events", *["/containers/json"] * 2]
    following.end()
    assert made.left.wait(BOUND_S), "the connection, which keeps a machine awake, is not ended"


def test_nobody_is_followed_for_ever(
    paths: MachinePaths, engine: Serve, told: queue.Queue[Sequence[Container]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "LOOKED_S", 0.05)
    made = Engine()
    engine(made)
    Following(paths, told.put)
    assert told.get(timeout=BOUND_S)
    assert made.left.wait(BOUND_S)


def test_a_machine_that_does_not_run_is_not_asked(
    paths: MachinePaths, told: queue.Queue[Sequence[Container]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths.make_run_dir()
    connected: list[Any] = []
    monkeypatch.setattr(containers, "connect", lambda *words: connected.append(words))
    before = {*threading.enumerate()}
    Following(paths, told.put)
    for thread in {*threading.enumerate()} - before:
        thread.join(BOUND_S)
    assert not connected
    assert told.empty()


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 500 no\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
def test_an_engine_that_does_not_answer_as_agreed_is_borne(
    paths: MachinePaths, engine: Serve, told: queue.Queue[Sequence[Container]], answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    def behave(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(answer)

    engine(behave)
    before = {*threading.enumerate()}
    Following(paths, told.put)
    for thread in {*threading.enumerate()} - before:
        thread.join(BOUND_S)
    assert told.empty()
    assert "cannot be told" in caplog.text
    assert "Traceback" not in caplog.text


def test_published_ports_are_links() -> None:
    ports = [
        {"Type": "tcp", "PrivatePort": 80, "PublicPort": 8080, "IP": "0.0.0.0"},
        {"Type": "tcp", "PrivatePort": 80, "PublicPort": 8080, "IP": "::"},
        {"Type": "tcp", "PrivatePort": 443, "PublicPort": 8443, "IP": "127.0.0.1"},
        {"Type": "tcp", "PrivatePort": 81, "PublicPort": 8081, "IP": "192.0.2.1"},
        {"Type": "tcp", "PrivatePort": 82, "PublicPort": 8082, "IP": "2001:db8::1"},
        {"Type": "tcp", "PrivatePort": 90},
        {"Type": "udp", "PrivatePort": 53, "PublicPort": 53, "IP": "0.0.0.0"},
    ]
    (found,) = of_api([{"Names": ["/a"], "State": "running", "Ports": ports}])
    assert found.links == (
        "http://localhost:8080", "https://localhost:8443", "http://192.0.2.1:8081", "http://[2001:db8::1]:8082",
    )  # fmt: skip


@pytest.mark.parametrize("rows", [{}, None, 1, [1], [{}], [{"Names": [], "State": "a"}], {"message": "no"}])
def test_what_is_no_list_of_containers_is_refused(rows: Any) -> None:
    if rows == {}:
        assert of_api(rows) == []
        return
    with pytest.raises(ValueError, match="no list"):
        of_api(rows)
