"""The docker socket on the host: real unix socket here, real SSH, real engine socket there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.errors import TransportError
from cove.forward import docker_socket
from cove.forward.docker_socket import DockerSocket, EngineDoor
from cove.local.sockets import listen
from cove.transport.base import Stream
from open_descriptors import open_descriptors


@pytest.fixture
def answering() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@pytest.fixture
def door(way: Any, answering: threading.Event) -> Iterator[Callable[[], socket.socket]]:
    """Connects a docker client."""
    path = way.folder / "docker.sock"
    transport = way.transport()
    listening = DockerSocket(listen(path, 128), EngineDoor(transport, answering).open)
    listening.start()

    def connect() -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        client.connect(str(path))
        return client

    yield connect
    listening.close()
    transport.close()


def echo(client: socket.socket) -> None:
    while data := client.recv(1 << 16):
        client.sendall(data)


def whole(client: socket.socket) -> bytes:
    parts = []
    while data := client.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_client_talks_to_the_engine(way: Any, door: Any) -> None:
    way.serve(echo)
    with door() as client:
        client.sendall(b"GET /_ping HTTP/1.1\r\n\r\n")
        assert client.recv(100) == b"GET /_ping HTTP/1.1\r\n\r\n"


def test_a_client_that_has_said_all_hears_the_rest(way: Any, door: Any) -> None:
    def digest(client: socket.socket) -> None:
        client.sendall(hashlib.sha256(whole(client)).hexdigest().encode())

    way.serve(digest)
    with door() as client:
        client.sendall(b"stdin of a container")
        client.shutdown(socket.SHUT_WR)
        assert whole(client).decode() == hashlib.sha256(b"stdin of a container").hexdigest()


def test_an_engine_that_has_said_all_hears_the_rest(way: Any, door: Any) -> None:
    heard = threading.Event()

    def speak_then_listen(client: socket.socket) -> None:
        client.sendall(b"output")
        client.shutdown(socket.SHUT_WR)
        if whole(client) == b"input":
            heard.set()

    way.serve(speak_then_listen)
    with door() as client:
        assert whole(client) == b"output"
        client.sendall(b"input")
        client.shutdown(socket.SHUT_WR)
        assert heard.wait(30)


def test_input_that_the_engine_does_not_take_is_no_error(way: Any, door: Any) -> None:
    def speak_and_leave(client: socket.socket) -> None:
        client.recv(2)
        client.sendall(b"output")
        client.shutdown(socket.SHUT_RDWR)

    def feed(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client.sendall(b"go" + bytes(32 << 20))

    way.serve(speak_and_leave)
    for _ in range(10):
        with door() as client:
            sender = threading.Thread(target=feed, args=(client,))
            sender.start()
            sender.join(20)
            assert whole(client) == b"output"  # and then the end, not a reset


def test_sixteen_megabytes_go_through_both_ways_unharmed(way: Any, door: Any) -> None:
    way.serve(echo)
    data = os.urandom(1 << 20) * 16
    with door() as client:
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        sender.start()
        received = whole(client)
        sender.join(10)
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def test_fifty_clients_at_once_each_get_their_own(way: Any, door: Any) -> None:
    way.serve(echo)
    wrong: list[int] = []

    def talk(number: int) -> None:
        data = b"%02d" % number * 10_000
        with door() as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            if whole(client) != data:
                wrong.append(number)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert way.guest.connections == 1


def test_a_client_waits_for_an_engine_that_starts_again(way: Any, door: Any, answering: threading.Event) -> None:
    way.serve(echo)()  # it has died, and the news is not here yet
    client = door()
    client.sendall(b"first")
    time.sleep(0.05)
    answering.clear()
    time.sleep(0.2)
    way.serve(echo)
    answering.set()
    assert client.recv(10) == b"first"
    client.close()


def refusal(client: socket.socket, method: bytes = b"GET") -> tuple[bytes, bytes]:
    """Head and body of what a client is told in the engine's place."""
    client.sendall(method + b" /v1.51/info HTTP/1.1\r\nHost: docker\r\n\r\n")
    head, _, body = whole(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    return head, body


def test_a_client_does_not_wait_for_ever(way: Any, door: Any, answering: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_socket, "ENGINE_WAIT_S", 0.3)
    answering.clear()
    begin = time.monotonic()
    with door() as client:
        head, body = refusal(client)
    assert 0.2 < time.monotonic() - begin < 25
    assert "does not answer" in json.loads(body)["message"]
    assert f"Content-Length: {len(body)}".encode() in head
    with door() as client:
        assert refusal(client, b"HEAD")[1] == b""


def test_nobody_waits_for_the_engine_of_a_machine_that_is_gone(way: Any, answering: threading.Event) -> None:
    transport = way.transport()
    answering.clear()
    door = EngineDoor(transport, answering)
    begin = time.monotonic()
    threading.Timer(0.2, door.close).start()
    with pytest.raises(TransportError):
        door.open()
    assert time.monotonic() - begin < 25
    transport.close()


def test_an_engine_that_seems_to_answer_and_does_not_is_not_asked_without_end(
    way: Any, door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_socket, "ENGINE_WAIT_S", 0.5)
    with door() as client:
        refusal(client)


def test_when_the_guest_vanishes_clients_are_told_and_new_ones_served(way: Any, door: Any) -> None:
    way.serve(echo)
    clients = [door() for _ in range(5)]
    for client in clients:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    way.guest.drop()
    assert all(ended(client) for client in clients)
    with door() as client:
        client.sendall(b"y")
        assert client.recv(1) == b"y"
    for client in clients:
        client.close()


@pytest.mark.parametrize("how", ["the guest vanishes", "the engine ends"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_who_waits_for_the_first_answer_is_told_that_none_will_come(
    way: Any, door: Any, how: str, method: bytes
) -> None:
    asked, ends = threading.Event(), threading.Event()

    def engine(client: socket.socket) -> None:
        client.recv(100)
        asked.set()
        assert ends.wait(30)

    way.serve(engine)
    with door() as client:
        client.sendall(method + b" /v1.51/info HTTP/1.1\r\nHost: docker\r\n\r\n")
        assert asked.wait(30)
        if how == "the guest vanishes":
            way.guest.drop()
        ends.set()
        head, _, body = whole(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/json\r\nConnection: close\r\n")
    if method == b"HEAD":
        assert body == b""
    else:
        assert json.loads(body) == {"message": "the engine ended before it answered"}


@pytest.mark.parametrize("answered", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-"])
def test_nothing_is_added_to_what_was_answered_before(way: Any, door: Any, answered: bytes) -> None:
    def engine(client: socket.socket) -> None:
        client.recv(100)
        client.sendall(answered)
        client.recv(100)  # and ends

    way.serve(engine)
    with door() as client:
        client.sendall(b"GET /v1.51/info HTTP/1.1\r\nHost: docker\r\n\r\n")
        assert client.recv(len(answered), socket.MSG_WAITALL) == answered
        client.sendall(b"GET /v1.51/info HTTP/1.1\r\nHost: docker\r\n\r\n")
        assert ended(client)


def test_who_has_asked_for_nothing_is_told_nothing(way: Any, door: Any) -> None:
    way.serve(lambda client: None)
    with door() as client:
        assert ended(client)


def test_when_the_client_vanishes_the_engine_is_told(way: Any, door: Any) -> None:
    gone = threading.Event()

    def stream_logs(client: socket.socket) -> None:
        try:
            while True:
                client.sendall(b"line\n" * 1000)
                time.sleep(0.005)
        except OSError:
            gone.set()

    way.serve(stream_logs)
    client = door()
    assert client.recv(5) == b"line\n"
    client.close()
    assert gone.wait(10)


class Silent(Stream):
    """An engine that has nothing to say and hears what it is told."""

    def __init__(self) -> None:
        self.told_the_end, self.closed = threading.Event(), threading.Event()

    def recv(self, size: int) -> bytes:
        self.closed.wait(10)
        return b""

    def sendall(self, data: bytes) -> None:
        pass

    def shutdown_write(self) -> None:
        self.told_the_end.set()

    def close(self) -> None:
        self.closed.set()


def test_a_follower_that_leaves_while_nothing_is_said_is_noticed() -> None:
    client, ours = socket.socketpair()
    stream = Silent()
    thread = threading.Thread(target=docker_socket._to_guest, args=(ours, stream, docker_socket._Asked()), daemon=True)
    thread.start()
    client.shutdown(socket.SHUT_WR)
    assert stream.told_the_end.wait(10)
    assert not stream.closed.wait(0.1)  # it may still read
    client.close()
    assert stream.closed.wait(10)
    thread.join(10)
    ours.close()


@contextlib.contextmanager
def served(folder: Path, open_stream: Callable[[], Stream]) -> Iterator[socket.socket]:
    """A client of a socket whose streams are those."""
    listening = DockerSocket(listen(folder / "docker.sock", 8), open_stream)
    listening.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(folder / "docker.sock"))
        yield client
    listening.close()


def test_a_client_for_whom_there_is_no_second_thread_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, start = Silent(), threading.Thread.start

    def no_more(thread: threading.Thread) -> None:
        if thread._target is docker_socket._to_client:  # type: ignore[attr-defined]
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", no_more)
    with served(tmp_path, lambda: stream) as client:
        assert json.loads(refusal(client)[1])["message"] == "this computer allows no more threads"
        assert stream.closed.wait(30)


def test_a_client_is_told_of_whatever_keeps_a_stream_from_being_opened(tmp_path: Path) -> None:
    def fail() -> Stream:
        raise RuntimeError("can't start new thread")  # as paramiko does when there are no more

    with served(tmp_path, fail) as client:
        assert "can't start new thread" in json.loads(refusal(client)[1])["message"]


@pytest.mark.parametrize("where", ["recv", "sendall", "shutdown_write"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stream_that_fails_as_none_should_ends_its_client(tmp_path: Path, where: str) -> None:
    stream = Silent()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    setattr(stream, where, fail)
    with served(tmp_path, lambda: stream) as client:
        with contextlib.suppress(OSError):  # it may have ended by then
            client.sendall(b"x")
            if where == "shutdown_write":
                client.shutdown(socket.SHUT_WR)
        assert stream.closed.wait(30)
        assert ended(client)


@pytest.mark.parametrize("vanishes", ["client", "guest"])
def test_threads_and_descriptors_end_with_their_connections(way: Any, door: Any, vanishes: str) -> None:
    way.serve(echo)
    with door() as client:
        client.sendall(b"x")
        client.recv(1)
    deadline = time.monotonic() + 10

    def counts() -> tuple[int, int]:
        return threading.active_count(), open_descriptors()

    before = counts()
    for _ in range(20):
        with door() as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            if vanishes == "guest":
                way.guest.drop()
    while any(now > then + 5 for now, then in zip(counts(), before, strict=True)):  # those of the SSH connection itself
        assert time.monotonic() < deadline, (before, counts())
        time.sleep(0.05)


def test_close_ends_all(way: Any, answering: threading.Event) -> None:
    way.serve(echo)
    path = way.folder / "docker.sock"
    path.write_text("left by a dead agent")
    transport = way.transport()
    door = DockerSocket(listen(path, 128), EngineDoor(transport, answering).open)
    door.start()
    assert path.stat().st_mode & 0o777 == 0o600
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(path))
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    door.close()
    assert ended(client)
    with pytest.raises(OSError):
        socket.socket(socket.AF_UNIX).connect(str(path))
    transport.close()
    client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only there can one wait for a reader")
def test_what_follows_an_upgrade_comes_when_its_answer_has_been_read(way: Any, door: Any) -> None:
    head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

    def engine(client: socket.socket) -> None:
        client.recv(100)
        client.sendall(head + b"output")  # in one piece, as SSH may make of two

    way.serve(engine)
    with door() as client:
        client.sendall(b"POST /exec/1/start HTTP/1.1\r\n\r\n")
        assert client.recv(1, socket.MSG_PEEK) == b"H"
        time.sleep(0.3)  # whoever reads late, with a buffer, must not find the output beside the answer
        assert client.recv(1 << 16) == head
        assert client.recv(1 << 16) == b"output"


def test_only_relay_threads_have_a_small_stack(way: Any, door: Any) -> None:
    way.serve(echo)
    before = threading.stack_size()
    with door() as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        assert threading.stack_size() == before
    with pytest.raises(ZeroDivisionError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda thread: 1 // 0)
        docker_socket._relay(print)
    assert threading.stack_size() == before


def test_nothing_is_begun_for_a_client_that_left_before_it_was_accepted(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    asked: list[str] = []
    seen = threading.Condition()
    changes = 0

    def changed() -> None:
        nonlocal changes
        with seen:
            changes += 1
            seen.notify()

    def wake() -> Stream:
        asked.append("a stream")
        raise TransportError("there is none")

    listener = listen(path, 128)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /events HTTP/1.1\r\n\r\n")
    listening = DockerSocket(listener, wake, changed)
    listening.start()
    with seen:
        assert seen.wait_for(lambda: changes == 2, 20), "it has come and gone"
    assert not asked
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"GET /events HTTP/1.1\r\n\r\n")
        client.shutdown(socket.SHUT_WR)  # all is said, and the answer waited for
        assert b"there is none" in whole(client)
    assert asked
    listening.close()
