"""Streams over SSH, against a real SSH server: who may come in, and what a connection at rest costs."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cove.errors import TransportError
from cove.transport.ssh import SshTransport, StreamlocalTransport, make_key
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED

WAIT_S = 60.0
TARGET = "/run/docker.sock"


def echo(client: socket.socket) -> None:
    while data := client.recv(1 << 16):
        client.sendall(data)


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

    def sleeps() -> bool:
        before = woken()
        time.sleep(1)
        return woken() == before

    # What belongs to the answer may yet be to come; a thread that looks by itself never has a second's rest.
    assert any(sleeps() for _ in range(10))
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
    assert time.monotonic() - begin < 50


def test_a_port_that_speaks_no_ssh_is_an_error_in_time(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cove.transport.ssh.CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        transport = SshTransport(mute.getsockname()[1], way.key, way.host_key)
        begin = time.monotonic()
        with pytest.raises(TransportError):
            transport.connect()
        assert time.monotonic() - begin < 50


class AnyChannel(paramiko.ServerInterface):
    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_auth_none(self, username: str) -> int:
        return AUTH_SUCCESSFUL


@pytest.mark.parametrize("errors", [False, True])
def test_a_server_that_sends_without_room_is_left(errors: bool) -> None:
    here, there = socket.socketpair()
    server = paramiko.Transport(there)
    server.add_server_key(paramiko.ECDSAKey.generate())

    def flood() -> None:
        server.start_server(server=AnyChannel())
        channel = server.accept(WAIT_S)
        assert channel is not None
        channel.out_window_size = 1 << 40
        with contextlib.suppress(OSError, EOFError):
            for _ in range(64 << 5):
                (channel.sendall_stderr if errors else channel.sendall)(bytes(1 << 15))

    flooding = threading.Thread(target=flood, daemon=True)
    flooding.start()
    transport = StreamlocalTransport(here)
    transport.start_client(timeout=WAIT_S)
    transport.auth_none("x")
    channel = transport.open_session(timeout=WAIT_S)
    transport.join(WAIT_S)
    assert not transport.is_alive()
    assert len(channel.in_buffer) + len(channel.in_stderr_buffer) < 9 << 20
    flooding.join(WAIT_S)
    server.close()


def test_keys_are_new_each_time_and_what_openssh_takes() -> None:
    (private, public), (other, _) = make_key(), make_key()
    assert private != other
    assert private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert public.split()[0] == "ssh-ed25519"
