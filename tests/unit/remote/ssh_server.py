"""A host's sshd, as far as tests need one: paramiko's, at a port of this computer or on a socket. Everybody is let in."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence

import paramiko
from cove.machine.remote import Address
from cove.remote.connection import Connection, _Ended, _Transport

LIMIT_S = 60.0


class Rules(paramiko.ServerInterface):
    """``silent``: takes no command and answers no question, until it is `closed`. ``sessions``: whether one may be opened."""

    def __init__(self, *, silent: bool = False, sessions: bool = True) -> None:
        self.silent = silent
        self.sessions = sessions
        self.closed = threading.Event()
        self.asked = threading.Event()

    def check_auth_none(self, username: str) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "none,publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        allowed = kind == "session" and self.sessions
        return paramiko.common.OPEN_SUCCEEDED if allowed else paramiko.common.OPEN_FAILED_RESOURCE_SHORTAGE

    def check_global_request(self, kind: str, msg: paramiko.Message) -> bool:
        self.asked.set()
        if self.silent:
            self.closed.wait(LIMIT_S)
        return False

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.asked.set()
        if self.silent:
            self.closed.wait(LIMIT_S)
        return False


class Server:
    """At ``127.0.0.1:port``, with these keys, up to `close`."""

    def __init__(self, *keys: paramiko.PKey) -> None:
        self.keys = keys
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.address = Address("127.0.0.1", "ann", self.port)
        self._served: list[paramiko.Transport] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    self._served.append(serve(sock, Rules(), self.keys))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in self._served:
            one.close()


def serve(sock: socket.socket, rules: Rules, keys: Sequence[paramiko.PKey]) -> paramiko.Transport:
    served = paramiko.Transport(sock)
    for key in keys:
        served.add_server_key(key)
    served.start_server(event=threading.Event(), server=rules)  # with an event: nobody waits
    return served


def connected(rules: Rules) -> tuple[Connection, paramiko.Transport]:
    """A connection, and its other end."""
    ours, theirs = socket.socketpair()
    served = serve(theirs, rules, [paramiko.ECDSAKey.generate()])
    transport = _Transport(ours)
    transport.start_client(timeout=LIMIT_S)
    transport.auth_none("ann")
    transport.settle()
    return Connection(Address("far"), transport, None, _Ended(None, False)), served
