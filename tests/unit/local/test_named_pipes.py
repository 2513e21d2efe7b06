"""What is in the place of unix sockets on Windows, with a real Python for Windows (docs/platforms.md says how one runs under Wine)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "win32":
    pytest.skip("of Windows", allow_module_level=True)

from cove.drivers.hyperv import console
from cove.local import pipes, processes, sockets
from cove.local.serving import serve
from cove.machine.locks import FileLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "default"
    folder.mkdir(parents=True)
    return folder / "docker.sock"


def echo(client: Any) -> None:
    while data := client.recv(1 << 16):
        client.sendall(data)
    client.sendall(b"END")
    client.shutdown(socket.SHUT_WR)
    client.gone.wait(30)
    client.close()


@pytest.fixture
def echoing(path: Path) -> Iterator[Path]:
    listener = sockets.listen(path, 4)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield path
    listener.close()


def connect(path: Path) -> socket.socket:
    made = sockets.connect(path, 10)
    made.settimeout(60)
    return made


def test_dockers_client_knows_its_address(path: Path) -> None:
    url = sockets.url(path)
    assert url.startswith("npipe:////./pipe/cove-")
    assert url.endswith("-default-docker")
    assert url != sockets.url(path.parent.parent.with_name("other") / "default" / "docker.sock")


def test_nobody_there_is_an_error_as_of_a_unix_socket(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sockets.connect(path, 1)
    sockets.listen(path, 4).close()
    with pytest.raises(ConnectionRefusedError):
        sockets.connect(path, 1)


def test_each_way_has_its_end(echoing: Path) -> None:
    with connect(echoing) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b"END"
        assert sock.recv(100) == b""


def test_many_at_once(echoing: Path) -> None:
    clients = [connect(echoing) for _ in range(12)]
    for number, client in enumerate(clients):
        client.sendall(b"%d" % number)
    assert [client.recv(9) for client in clients] == [b"%d" % number for number in range(12)]
    for client in clients:
        client.close()


def test_much_both_ways_at_once(echoing: Path) -> None:
    much = os.urandom(1 << 20)
    with connect(echoing) as client:

        def send() -> None:
            client.sendall(much)
            client.shutdown(socket.SHUT_WR)

        threading.Thread(target=send, daemon=True).start()
        got = b""
        while data := client.recv(1 << 16):
            got += data
    assert got == much + b"END"


def test_an_event_loop_serves_it(path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got " + await reader.readline())
        await writer.drain()
        writer.close()

    def ask() -> bytes:
        with connect(path) as sock, sock.makefile("rb") as lines:
            sock.sendall(b"question\n")
            return lines.readline()

    async def run() -> bytes:
        server = await serve(sockets.listen(path, 4), answer, 1 << 16)
        try:
            return await asyncio.to_thread(ask)
        finally:
            server.close()

    assert asyncio.run(run()) == b"got question\n"


def test_a_pipe_that_cannot_be_made_costs_one_client(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = pipes.listen(path)

    def fails(*, first: bool) -> int:
        raise OSError("no room")

    try:
        with connect(path) as lost, monkeypatch.context() as patch:
            patch.setattr(listener, "_make", fails)
            with pytest.raises(OSError, match="no room"):
                listener.accept()
            assert lost.recv(1) == b""
        assert listener.fileno() >= 0

        def greet() -> None:
            with listener.accept()[0] as served:
                served.sendall(b"hello")

        threading.Thread(target=greet, daemon=True).start()
        with connect(path) as sock:
            assert sock.recv(5) == b"hello"
    finally:
        listener.close()
    assert listener.fileno() < 0


def test_a_pipe_is_this_users(path: Path) -> None:
    listener = pipes.listen(path)
    assert listener.name == pipes.name(path)
    assert pipes._owner(listener._next) == pipes._user()
    listener.close()


def test_a_child_holds_the_lock_that_it_inherits_for_as_long_as_it_lives(tmp_path: Path) -> None:
    lock, other = FileLock(tmp_path / "vm.lock"), FileLock(tmp_path / "vm.lock")
    assert lock.try_acquire()
    assert not other.try_acquire()
    with (tmp_path / "log").open("ab") as log:
        words = [sys.executable, "-c", "import time; time.sleep(600)"]
        child = processes.start(words, log, inherited=[lock.fd], folder=tmp_path)
    lock.release()
    assert not other.is_free()
    child.kill()
    child.wait(60)
    other.acquire(60, "the lock of a child that is gone")
    other.release()


def test_a_closed_listener_leaves_its_name_free_and_nobody_waiting(path: Path) -> None:
    for _ in range(30):
        listener = pipes.listen(path)
        ended = threading.Event()

        def accept(listener: pipes.PipeListener = listener, ended: threading.Event = ended) -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()
            ended.set()

        threading.Thread(target=accept, daemon=True).start()
        listener.close()  # at whatever it is
        assert ended.wait(60)
        assert listener.fileno() < 0


def test_a_client_that_comes_while_it_is_closed_keeps_no_pipe(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = pipes.listen(path)
    make, closing = listener._make, threading.Thread(target=listener.close, daemon=True)

    def closed_meanwhile(*, first: bool) -> int:
        closing.start()
        return make(first=first)

    monkeypatch.setattr(listener, "_make", closed_meanwhile)
    accepted: list[Any] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            accepted.append(listener.accept()[0])

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    with connect(path) as client:
        accepting.join(60)
        closing.join(60)
        assert not closing.is_alive()
        (served,) = accepted
        served.sendall(b"served all the same")
        served.close()
        assert client.recv(100) == b"served all the same"
    with pytest.raises(OSError, match=r".") as told:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:  # the system lets go of the ends when both are closed
            pipes.open_pipe(listener.name, 1).close()
    assert isinstance(told.value, FileNotFoundError)
    pipes.listen(path).close()


@pytest.mark.parametrize("url", ["npipe:////./pipe/docker_engine", r"npipe://\\.\pipe\docker_engine"])
def test_a_pipe_has_a_url_as_docker_writes_it(url: str) -> None:
    path = sockets.at(url)
    assert path is not None
    assert str(path) == r"\\.\pipe\docker_engine"
    assert sockets.url(path) == "npipe:////./pipe/docker_engine"
    with pytest.raises(FileNotFoundError):
        sockets.connect(path, 1)


@pytest.mark.parametrize(
    "url", ["unix:///c/docker.sock", "npipe://", "npipe:////./pipe/", "npipe:////server/pipe/x", "npipe://C:/x"]
)
def test_no_other_place_is_one_of_an_engine(url: str) -> None:
    assert sockets.at(url) is None


def test_a_pipe_is_reached_by_its_url(echoing: Path) -> None:
    path = sockets.at(sockets.url(echoing))
    assert path is not None
    with connect(path) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"


def test_a_pipe_of_a_stranger_is_refused(echoing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "_owner", lambda handle: "S-1-5-21-1-2-3-1001")
    path = sockets.at(sockets.url(echoing))
    assert path is not None
    for place in (echoing, path):
        with pytest.raises(PermissionError, match="is another user's"):
            sockets.connect(place, 5)


def test_a_service_s_pipe_is_one_that_a_url_may_lead_to(echoing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "_owner", lambda handle: "S-1-5-18")
    path = sockets.at(sockets.url(echoing))
    assert path is not None
    connect(path).close()
    with pytest.raises(PermissionError):
        sockets.connect(echoing, 5)


@pytest.mark.parametrize(
    ("owner", "is_taken"),
    [("S-1-5-18", True), ("S-1-5-83-1-7-8-9", True), ("S-1-5-21-1-2-3-1001", False), ("S-1-5-830-1", False)],
)
def test_a_vms_console_is_read_when_its_pipe_is_not_a_strangers(
    path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, is_taken: bool
) -> None:
    listener = pipes.listen(path)
    monkeypatch.setattr(pipes, "_owner", lambda handle: owner)

    def say() -> None:
        client, _ = listener.accept()
        client.sendall(b"hello\n")
        client.close()

    async def read() -> bytes:
        threading.Thread(target=say, daemon=True).start()
        heard = await console.connect(console.open_pipe, listener.name, path.parent / "console.log")
        if heard is None:
            return b""
        await asyncio.wait_for(heard.lost.wait(), 60)
        heard.close()
        return (path.parent / "console.log").read_bytes()

    try:
        assert asyncio.run(read()) == (b"hello\n" if is_taken else b"")
    finally:
        listener.close()
