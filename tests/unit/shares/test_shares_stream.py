"""A folder whose messages come by a stream, where the machine has no port for it."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from coved.shares import stream
from coved.shares.table import Share

SHARE = Share("folder1", "/home/user", driver="agent")


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    monkeypatch.setattr(stream, "DOORS", tmp_path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "folder1.sock"))
    listener.listen()
    return listener


def test_the_kernel_is_given_the_stream_itself(door: socket.socket) -> None:
    said: list[bytes] = []

    def call(options: str) -> None:
        found = dict(one.split("=") for one in options.split(","))
        assert (found["trans"], found["rfdno"]) == ("fd", found["wfdno"])
        os.write(int(found["wfdno"]), b"a message of 9p")
        server, _ = door.accept()
        with server:
            said.append(server.recv(64))

    with door:
        stream.mount(SHARE, call)
    assert said == [b"a message of 9p"]


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EINVAL])
def test_a_kernel_without_9p_is_named(door: socket.socket, number: int) -> None:
    def call(options: str) -> None:
        raise OSError(number, os.strerror(number))

    with door, pytest.raises(OSError, match="the kernel of that host has no 9p") as raised:
        stream.mount(SHARE, call)
    assert raised.value.errno == errno.EOPNOTSUPP, "for which nobody waits, as for a device that is to come"
