"""The guest's answer to a host that its kernel does not know of yet (virtio_console: data may be there before the news)."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from coved.streams import service as module
from coved.streams.frames import HELLO, NONCE_SIZE, credit, frame


class Port(module.Streams):
    def __init__(self, end: socket.socket) -> None:
        super().__init__("")
        self._end = end

    def _open_port(self) -> None:
        self._end.setblocking(False)
        self._port = self._end.fileno()
        self._changes.register(self._port, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)


class Kernel:
    """The os module, of a kernel that takes nothing and calls an empty port closed until it has heard of the host."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.heard = False

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def read(self, descriptor: int, size: int) -> bytes:
        try:
            return os.read(descriptor, size)
        except BlockingIOError:
            if descriptor == self._port and not self.heard:
                return b""
            raise

    def write(self, descriptor: int, data: bytes) -> int:
        if descriptor == self._port and not self.heard:
            raise BlockingIOError
        return os.write(descriptor, data)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, Kernel]]:
    host, guest = socket.socketpair()
    host.settimeout(30)
    kernel = Kernel(guest.fileno())
    monkeypatch.setattr(module, "os", kernel)
    threading.Thread(target=Port(guest).run, daemon=True).start()
    yield host, kernel
    host.close()


def test_it_is_sent_as_soon_as_it_is_taken_and_the_last_one_alone(ends: tuple[socket.socket, Kernel]) -> None:
    host, kernel = ends
    first, second = (frame(HELLO, 0, bytes([number]) * NONCE_SIZE) for number in (1, 2))
    for hello in (first, second):
        host.sendall(hello)
        with pytest.raises(TimeoutError):
            host.settimeout(0.3)
            host.recv(100)
    host.settimeout(30)
    kernel.heard = True
    host.sendall(credit(1, 1))  # of no stream: the news, which here comes with it
    assert host.recv(1000) == second
