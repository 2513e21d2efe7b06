"""The guest's end of the streams on vsock, beside that on a serial port: the host connects, and shows that it is the host."""

from __future__ import annotations

import os
import secrets
import select
import socket
import sys
from pathlib import Path
from typing import Any

from coved.streams.key import KEY, KEY_SIZE
from coved.streams.knock import NONCE_SIZE, PORT, PROOF_SIZE, guests_proof, hosts_proof, same
from coved.streams.taking import TakenStreams

MODULES = ("vmw_vsock_virtio_transport", "hv_sock")
MOST = 8
"""Connections that have not shown yet whose they are."""


class VsockStreams(TakenStreams):
    """Serves who connects and has the key."""

    def __init__(self, listener: socket.socket, key: bytes) -> None:
        super().__init__(listener)
        self._key = key
        self._knocking: dict[int, _Knock] = {}

    def is_host(self, address: Any) -> bool:
        return bool(address[0] == socket.VMADDR_CID_HOST)

    def _other(self, descriptor: int) -> None:
        if descriptor == self._listener.fileno():
            self._accept_host()
        elif (one := self._knocking.get(descriptor)) is not None:
            self._hear(one)

    def _accept_host(self) -> None:
        try:
            connection, address = self._listener.accept()
        except OSError:  # it has gone again
            return
        if not self.is_host(address):
            connection.close()
            return
        if len(self._knocking) >= MOST:
            self._turn_away(next(iter(self._knocking.values())))
        connection.setblocking(False)
        self._knocking[connection.fileno()] = _Knock(connection, secrets.token_bytes(NONCE_SIZE))
        self._changes.register(connection, select.EPOLLIN)

    def _turn_away(self, one: _Knock) -> None:
        del self._knocking[one.connection.fileno()]
        one.connection.close()

    def _hear(self, one: _Knock) -> None:
        wanted = NONCE_SIZE if not one.greeted else NONCE_SIZE + PROOF_SIZE
        try:
            data = one.connection.recv(wanted - len(one.heard))
            one.heard += data
            if data and not one.greeted and len(one.heard) == NONCE_SIZE:
                one.greeted = True
                answer = one.nonce + guests_proof(self._key, one.heard, one.nonce)
                if one.connection.send(answer) < len(answer):
                    data = b""
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._turn_away(one)
        elif len(one.heard) == NONCE_SIZE + PROOF_SIZE:
            hosts, proof = one.heard[:NONCE_SIZE], one.heard[NONCE_SIZE:]
            if same(proof, hosts_proof(self._key, hosts, one.nonce)):
                del self._knocking[one.connection.fileno()]
                self._changes.unregister(one.connection)
                self._let_in(one.connection)
            else:
                self._turn_away(one)


class _Knock:
    """A connection of which nobody knows yet whose it is."""

    def __init__(self, connection: socket.socket, nonce: bytes) -> None:
        self.connection = connection
        self.nonce = nonce
        self.heard = b""
        self.greeted = False


def prepared() -> VsockStreams | None:
    """One that already listens, so that the host need not ask twice; None where it cannot come this way."""
    try:
        key = bytes.fromhex(Path(KEY).read_text("ascii"))
    except (OSError, ValueError):
        return None
    if len(key) != KEY_SIZE:
        return None
    for module in MODULES:  # the one whose device is there; nothing else asks for it
        pid = os.posix_spawn("/usr/sbin/modprobe", ["modprobe", "-q", module], {})
        os.waitpid(pid, 0)
    try:
        listener = socket.socket(socket.AF_VSOCK)
        listener.bind((socket.VMADDR_CID_ANY, PORT))
        listener.listen(MOST)
    except OSError as error:
        print(f"the host cannot come by vsock: {error}", file=sys.stderr, flush=True)
        return None
    return VsockStreams(listener, key)
