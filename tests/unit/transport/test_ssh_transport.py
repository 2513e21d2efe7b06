"""Streams over SSH, against a real SSH server: who may, what arrives, and what a broken connection does."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cove.errors import TransportError
from cove.transport.ssh import SshTransport, make_key

TARGET = "/run/docker.sock"


def echo(client: socket.socket) -> None:
    while data := client.recv(1 << 16):
        client.sendall(data)


def whole(stream: Any) -> bytes:
    parts = []
    while data := stream.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def test_bytes_go_in_and_come_back(way: Any) -> None:
    way.serve(echo)
    transport = way.transport()
    stream = transport.open_stream(TARGET)
    stream.sendall(b"ping")
    assert stream.recv(10) == b"ping"
    stream.close()
    transport.close()


def test_many_streams_are_one_connection(way: Any) -> None:
    way.serve(echo)
    transport = way.transport()
    transport.connect()
    streams = [transport.open_stream(TARGET) for _ in range(30)]
    for number, stream in enumerate(streams):
        stream.sendall(b"%d" % number)
    assert [stream.recv(10) for stream in streams] == [b"%d" % number for number in range(30)]
    assert way.guest.connections == 1
    transport.close()


def test_the_end_of_one_direction_leaves_the_other_open(way: Any) -> None:
    def answer_at_the_end(client: socket.socket) -> None:
        data = b""
        while more := client.recv(1 << 16):
            data += more
        client.sendall(hashlib.sha256(data).hexdigest().encode())

    way.serve(answer_at_the_end)
    transport = way.transport()
    stream = transport.open_stream(TARGET)
    stream.sendall(b"all of it")
    stream.shutdown_write()
    assert whole(stream).decode() == hashlib.sha256(b"all of it").hexdigest()
    transport.close()


def test_a_guest_that_has_said_all_still_listens(way: Any) -> None:
    heard: list[bytes] = []
    done = threading.Event()

    def speak_then_listen(client: socket.socket) -> None:
        client.sendall(b"bye")
        client.shutdown(socket.SHUT_WR)
        while data := client.recv(1 << 16):
            heard.append(data)
        done.set()

    way.serve(speak_then_listen)
    transport = way.transport()
    stream = transport.open_stream(TARGET)
    assert whole(stream) == b"bye"
    stream.sendall(b"still here")
    stream.shutdown_write()
    assert done.wait(5)
    assert b"".join(heard) == b"still here"
    transport.close()


def test_large_data_arrives_whole_while_nobody_hurries(way: Any) -> None:
    data = os.urandom(1 << 20) * 16
    way.serve(echo)
    transport = way.transport()
    stream = transport.open_stream(TARGET)
    sender = threading.Thread(target=lambda: (stream.sendall(data), stream.shutdown_write()))
    sender.start()
    time.sleep(0.2)  # the windows fill, and the sender waits
    received = whole(stream)
    sender.join(10)
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
    transport.close()


def test_a_socket_that_nobody_listens_on_is_named(way: Any) -> None:
    transport = way.transport()
    with pytest.raises(TransportError, match=r"/run/docker.sock in the machine does not answer"):
        transport.open_stream(TARGET)
    way.serve(echo)  # and the connection is still good
    transport.open_stream(TARGET).close()
    assert way.guest.connections == 1
    transport.close()


@pytest.mark.parametrize("how", ["dropped", "restarted"])
def test_a_connection_that_broke_is_made_again(way: Any, how: str) -> None:
    way.serve(echo)
    transport = way.transport()
    old = transport.open_stream(TARGET)
    if how == "dropped":
        way.guest.drop()
    else:
        way.restart_sshd()
    with contextlib.suppress(OSError):
        assert old.recv(10) == b""
    stream = transport.open_stream(TARGET)
    stream.sendall(b"again")
    assert stream.recv(10) == b"again"
    transport.close()


def test_a_blocked_reader_wakes_when_the_guest_vanishes(way: Any) -> None:
    way.serve(echo)
    transport = way.transport()
    stream = transport.open_stream(TARGET)
    ended = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            stream.recv(10)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    way.guest.drop()
    assert ended.wait(5)
    transport.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how often a thread was woken")
def test_a_connection_at_rest_wakes_nobody_and_can_be_closed(way: Any) -> None:
    way.serve(echo)
    transport = way.transport()
    before = {thread.native_id for thread in threading.enumerate()}
    stream = transport.open_stream(TARGET)
    stream.sendall(b"ping")
    assert stream.recv(10) == b"ping"
    (own,) = [
        thread
        for thread in threading.enumerate()
        if thread.native_id not in before and "streamlocal" in repr(thread).lower() + type(thread).__name__.lower()
    ]

    def woken() -> str:
        status = Path(f"/proc/self/task/{own.native_id}/status").read_text()
        return next(line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches"))

    time.sleep(0.3)  # what belongs to the answer
    asleep = woken()
    time.sleep(1)
    assert woken() == asleep
    transport.close()
    own.join(10)
    assert not own.is_alive()


def test_another_host_key_is_not_talked_to(way: Any) -> None:
    way.serve(echo)
    other = way.folder / "other"
    other.write_text(make_key()[0])
    transport = SshTransport(way.guest.port, way.key, other)
    with pytest.raises(TransportError, match="another host key") as error:
        transport.open_stream(TARGET)
    assert "another program may have its port" in error.value.hint


def test_a_key_that_the_guest_does_not_know_gets_nothing(way: Any) -> None:
    way.serve(echo)
    other = way.folder / "other"
    other.write_text(make_key()[0])
    with pytest.raises(TransportError, match="no SSH connection into the machine"):
        SshTransport(way.guest.port, other, way.host_key).connect()


def test_nobody_there_is_an_error_at_once(way: Any) -> None:
    transport = way.transport()
    way.guest.close()
    begin = time.monotonic()
    with pytest.raises(TransportError, match="no SSH connection into the machine"):
        transport.connect()
    assert time.monotonic() - begin < 5


def test_a_port_that_speaks_no_ssh_is_an_error_in_time(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cove.transport.ssh.CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        transport = SshTransport(mute.getsockname()[1], way.key, way.host_key)
        begin = time.monotonic()
        with pytest.raises(TransportError):
            transport.connect()
        assert time.monotonic() - begin < 5


def test_after_close_there_is_nothing(way: Any) -> None:
    way.serve(echo)
    transport = way.transport()
    stream = transport.open_stream(TARGET)
    transport.close()
    with contextlib.suppress(OSError):
        assert stream.recv(10) == b""
    with pytest.raises(TransportError, match="is closed"):
        transport.open_stream(TARGET)


def test_keys_are_new_each_time_and_what_openssh_takes() -> None:
    (private, public), (other, _) = make_key(), make_key()
    assert private != other
    assert private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert public.split()[0] == "ssh-ed25519"
