"""The transports into a guest: over SSH, and over a serial port and a socket with the guest's own service behind them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cove.local.sockets import connect, listen
from cove.transport.serial import SerialTransport
from cove.transport.vsock import greet
from ways import Way


class SerialGuest:
    """The service of the guest on a pseudo terminal, and what stands for the hypervisor: one connection at a time leads there."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "streams.sock"
        self.connections = 0
        self._listener = listen(self.socket, 4)
        self._client: socket.socket | None = None
        self._port, slave = os.openpty()
        tty.setraw(self._port)
        tty.setraw(slave)
        self._slave = slave  # kept open, as a port is there whether or not somebody has it open
        self._service = self._start()
        threading.Thread(target=self._accept, daemon=True).start()
        threading.Thread(target=self._to_host, daemon=True).start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "coved.streams", os.ttyname(self._slave)])

    def restart(self) -> None:
        self._kill()
        self._service = self._start()

    def hear(self, data: bytes) -> None:
        """In place of the host."""
        os.write(self._port, data)

    def drop(self) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)

    def pause(self) -> None:
        self._service.send_signal(signal.SIGSTOP)

    def _kill(self) -> None:
        self._service.kill()
        self._service.wait(10)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        self._kill()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._client = client
            self.connections += 1
            with contextlib.suppress(OSError):
                while data := client.recv(4096):
                    while data:
                        data = data[os.write(self._port, data) :]
            client.close()

    def _to_host(self) -> None:
        while True:
            try:
                data = os.read(self._port, 1 << 16)
            except OSError:
                return
            if self._client is not None:
                with contextlib.suppress(OSError):
                    self._client.sendall(data)


class SerialWay(Way):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.target = str(self.engine)
        self.guest = SerialGuest(folder)
        self._made: list[SerialTransport] = []

    def transport(self) -> SerialTransport:
        self._made.append(SerialTransport(partial(connect, self.guest.socket)))
        return self._made[-1]

    def restart(self) -> None:
        self.guest.restart()
        for transport in self._made:
            transport.drop()  # the hypervisor tells that the port was closed


@pytest.fixture
def serial_way() -> Iterator[SerialWay]:
    with SerialWay.made() as made:
        yield made


VSOCK = """
import socket, sys
from coved.streams.vsock import VsockStreams

class Here(VsockStreams):
    def is_host(self, address):
        return True

Here(socket.socket(fileno=int(sys.argv[1])), bytes.fromhex(sys.argv[2])).run()
"""


class VsockGuest:
    """The service of the guest on a socket. A unix socket has to do: few computers can speak to themselves by vsock."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self.socket = folder / "vsock"
        self.key = key
        self.connections = 0
        self._dialed: socket.socket | None = None
        self._listener = listen(self.socket, 16)
        self._service = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        fd = self._listener.fileno()
        return subprocess.Popen([sys.executable, "-c", VSOCK, str(fd), self.key.hex()], pass_fds=[fd])

    def dial(self, timeout_s: float) -> socket.socket:
        made = connect(self.socket, timeout_s)
        made.settimeout(timeout_s)
        greet(made, self.key)
        self._dialed = made
        self.connections += 1
        return made

    def drop(self) -> None:
        if self._dialed is not None:
            with contextlib.suppress(OSError):
                self._dialed.shutdown(socket.SHUT_RDWR)

    def restart(self) -> None:
        self.close_service()
        self._service = self._start()

    def close_service(self) -> None:
        self._service.kill()
        self._service.wait(10)

    def close(self) -> None:
        self._listener.close()
        self.close_service()


class VsockWay(Way):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.target = str(self.engine)
        self.guest = VsockGuest(folder, bytes(range(32)))

    def transport(self) -> SerialTransport:
        return SerialTransport(self.guest.dial)

    def restart(self) -> None:
        self.guest.restart()


@pytest.fixture
def vsock_way() -> Iterator[VsockWay]:
    with VsockWay.made() as made:
        yield made


@pytest.fixture(params=["ssh", "serial", "vsock"])
def either_way(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue({"ssh": "way", "serial": "serial_way", "vsock": "vsock_way"}[request.param])
