"""A folder whose messages come by a stream, where the machine has no port for it."""

from __future__ import annotations

import contextlib
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
def test_a_kernel_without_9p_is_named(
    door: socket.socket, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_STREAMS_OF_9P", tmp_path / "module")

    def call(options: str) -> None:
        raise OSError(number, os.strerror(number))

    with door, pytest.raises(OSError, match="the kernel of that host has no 9p") as raised:
        stream.mount(SHARE, call)
    assert raised.value.errno == errno.EOPNOTSUPP, "for which nobody waits, as for a device that is to come"


def test_what_a_kernel_with_9p_does_not_take_is_its_own_error(
    door: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_STREAMS_OF_9P", tmp_path)

    def call(options: str) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with door, pytest.raises(OSError, match="Invalid argument") as raised:
        stream.mount(SHARE, call)
    assert raised.value.errno == errno.EINVAL


def test_a_stream_that_nobody_takes_in_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "DOORS", tmp_path)
    monkeypatch.setattr(stream, "ANSWER_S", 0.3)
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(tmp_path / "folder1.sock"))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                one = waiting.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
                one.connect(str(tmp_path / "folder1.sock"))
        with pytest.raises(TimeoutError, match="nobody takes the stream of this folder in"):
            stream.mount(SHARE, lambda _: pytest.fail("there is nothing to mount"))
