"""Streams into the guest by every transport: what arrives, and what a broken connection does."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from typing import Any

import pytest
from cove.errors import TransportError


def whole(stream: Any) -> bytes:
    parts = []
    while data := stream.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def echo(client: socket.socket) -> None:
    while data := client.recv(1 << 16):
        client.sendall(data)


def test_bytes_go_in_and_come_back(either_way: Any) -> None:
    either_way.serve(echo)
    transport = either_way.transport()
    stream = transport.open_stream(either_way.target)
    stream.sendall(b"ping")
    assert stream.recv(10) == b"ping"
    stream.close()
    transport.close()


def test_many_streams_are_one_connection(either_way: Any) -> None:
    either_way.serve(echo)
    transport = either_way.transport()
    transport.connect()
    streams = [transport.open_stream(either_way.target) for _ in range(30)]
    for number, stream in enumerate(streams):
        stream.sendall(b"%d" % number)
    assert [stream.recv(10) for stream in streams] == [b"%d" % number for number in range(30)]
    assert either_way.guest.connections == 1
    transport.close()


def test_the_end_of_one_direction_leaves_the_other_open(either_way: Any) -> None:
    def answer_at_the_end(client: socket.socket) -> None:
        data = b""
        while more := client.recv(1 << 16):
            data += more
        client.sendall(hashlib.sha256(data).hexdigest().encode())

    either_way.serve(answer_at_the_end)
    transport = either_way.transport()
    stream = transport.open_stream(either_way.target)
    stream.sendall(b"all of it")
    stream.shutdown_write()
    assert whole(stream).decode() == hashlib.sha256(b"all of it").hexdigest()
    transport.close()


def test_a_guest_that_has_said_all_still_listens(either_way: Any) -> None:
    heard: list[bytes] = []
    done = threading.Event()

    def speak_then_listen(client: socket.socket) -> None:
        client.sendall(b"bye")
        client.shutdown(socket.SHUT_WR)
        while data := client.recv(1 << 16):
            heard.append(data)
        done.set()

    either_way.serve(speak_then_listen)
    transport = either_way.transport()
    stream = transport.open_stream(either_way.target)
    assert whole(stream) == b"bye"
    stream.sendall(b"still here")
    stream.shutdown_write()
    assert done.wait(30)
    assert b"".join(heard) == b"still here"
    transport.close()


def test_large_data_arrives_whole_while_nobody_hurries(either_way: Any) -> None:
    data = os.urandom(1 << 20) * 16
    either_way.serve(echo)
    transport = either_way.transport()
    stream = transport.open_stream(either_way.target)
    sender = threading.Thread(target=lambda: (stream.sendall(data), stream.shutdown_write()))
    sender.start()
    time.sleep(0.2)  # the windows fill, and the sender waits
    received = whole(stream)
    sender.join(10)
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
    transport.close()


def test_a_socket_that_nobody_listens_on_is_named(either_way: Any) -> None:
    transport = either_way.transport()
    with pytest.raises(TransportError, match=r"\.sock in the machine does not answer"):
        transport.open_stream(either_way.target)
    either_way.serve(echo)  # and the connection is still good
    transport.open_stream(either_way.target).close()
    assert either_way.guest.connections == 1
    transport.close()


@pytest.mark.parametrize("how", ["dropped", "restarted"])
def test_a_connection_that_broke_is_made_again(either_way: Any, how: str) -> None:
    either_way.serve(echo)
    transport = either_way.transport()
    old = transport.open_stream(either_way.target)
    if how == "dropped":
        either_way.guest.drop()
    else:
        either_way.restart()
    with contextlib.suppress(OSError):
        assert old.recv(10) == b""
    stream = transport.open_stream(either_way.target)
    stream.sendall(b"again")
    assert stream.recv(10) == b"again"
    transport.close()


def test_a_blocked_reader_wakes_when_the_guest_vanishes(either_way: Any) -> None:
    either_way.serve(echo)
    transport = either_way.transport()
    stream = transport.open_stream(either_way.target)
    ended = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            stream.recv(10)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    either_way.guest.drop()
    assert ended.wait(30)
    transport.close()


def test_after_close_there_is_nothing(either_way: Any) -> None:
    either_way.serve(echo)
    transport = either_way.transport()
    stream = transport.open_stream(either_way.target)
    transport.close()
    with contextlib.suppress(OSError):
        assert stream.recv(10) == b""
    with pytest.raises(TransportError, match="is closed"):
        transport.open_stream(either_way.target)


def test_the_guest_opens_streams_to_a_service_of_this_computer(
    serial_way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cove.transport.base.SERVICES", str(serial_way.engine.parent))
    transport = serial_way.transport()

    def shout(stream: Any) -> None:
        while data := stream.recv(100):
            stream.sendall(data.upper())
        stream.sendall(b"bye")
        stream.shutdown_write()

    transport.serve("shouting", shout)
    transport.connect()
    place = serial_way.engine.parent / "shouting.sock"
    deadline = time.monotonic() + 10
    while not place.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert place.stat().st_mode & 0o777 == 0o600
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(place))
            client.sendall(b"hello")
            assert client.recv(5) == b"HELLO"
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b"bye"
            assert client.recv(100) == b""
    transport.disconnect()
    assert not place.exists()
