"""An SSH server as the guest's is: public keys only, and channels to unix socket paths (PROTOCOL of OpenSSH, section 2.4)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paramiko

_KIND = "direct-streamlocal@openssh.com"
_FORWARDED = "forwarded-streamlocal@openssh.com"
_CHUNK = 1 << 15


class GuestSsh:
    """Listens on 127.0.0.1, if no listener is given. `targets` maps paths that clients ask for to unix sockets that are there."""

    def __init__(
        self, host_key: Path, authorized: str, targets: Mapping[str, Path], listener: socket.socket | None = None
    ) -> None:
        self._host_key = paramiko.Ed25519Key.from_private_key_file(str(host_key))
        self.authorized = authorized.split()[1]
        self.targets = targets
        self.connections = 0
        self._live: list[_ServerTransport] = []
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """Cut every connection, as a guest that vanishes does."""
        for transport in self._live:
            transport.sock.close()
            transport.close()
        self._live.clear()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            transport = _ServerTransport(client)
            transport.add_server_key(self._host_key)
            self._live.append(transport)
            server = _Server(self)
            transport.asked, server.transport = server.asked, transport
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(threading.Event(), server)
            threading.Thread(target=_channels, args=(transport, server), daemon=True).start()


class _ServerTransport(paramiko.Transport):
    """paramiko does not read where a channel of an unknown kind leads."""

    asked: dict[str, str]

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._opening = threading.local()

    def forward(self, path: str, listener: socket.socket) -> None:
        """As sshd does for streamlocal-forward: what connects becomes a channel to the client."""
        with listener:
            while self.is_active():
                client, _ = listener.accept()
                try:
                    self._opening.path = path
                    channel = self.open_channel(_FORWARDED, timeout=10)
                except (OSError, EOFError, paramiko.SSHException):
                    client.close()  # the channel was closed as soon as it was open, or the connection has ended
                    continue
                _pass_on(channel, client)

    def _send_user_message(self, message: Any) -> None:
        path = self._opening.__dict__.pop("path", None)
        if path is not None:
            message.add_string(path)
            message.add_string("")
        super()._send_user_message(message)  # type: ignore[misc]

    def _parse_channel_open(self, message: Any) -> None:
        kind = message.get_text()
        for _ in range(3):
            message.get_int()
        if kind == _KIND:
            self.asked["path"] = message.get_text()
        message.rewind()
        super()._parse_channel_open(message)  # type: ignore[misc]


class _Server(paramiko.ServerInterface):
    def __init__(self, guest: GuestSsh) -> None:
        self._guest = guest
        self.asked: dict[str, str] = {}
        self.sockets: dict[int, socket.socket] = {}
        self.transport: _ServerTransport | None = None

    def check_global_request(self, kind: str, message: Any) -> bool:
        assert self.transport is not None
        path = message.get_text()
        if kind != "streamlocal-forward@openssh.com" or path not in self._guest.targets:
            return False
        place = self._guest.targets[path]
        place.unlink(missing_ok=True)  # StreamLocalBindUnlink, sshd_config(5)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(place))
        listener.listen()
        threading.Thread(target=self.transport.forward, args=(path, listener), daemon=True).start()
        return True

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        good = username == "root" and key.get_base64() == self._guest.authorized
        return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind != _KIND:
            return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        target = socket.socket(socket.AF_UNIX)
        try:
            target.connect(str(self._guest.targets[self.asked["path"]]))
        except (OSError, KeyError):
            target.close()
            return paramiko.OPEN_FAILED_CONNECT_FAILED
        self.sockets[chanid] = target
        return paramiko.OPEN_SUCCEEDED


def _channels(transport: paramiko.Transport, server: _Server) -> None:
    while transport.is_active():
        channel = transport.accept(1)
        if channel is not None:
            _pass_on(channel, server.sockets.pop(channel.chanid))


def _pass_on(channel: paramiko.Channel, target: socket.socket) -> None:
    ended = threading.Semaphore(0)
    for function in (_out, _in):
        threading.Thread(target=function, args=(channel, target, ended), daemon=True).start()
    threading.Thread(target=_finish, args=(channel, target, ended), daemon=True).start()


def _out(channel: paramiko.Channel, target: socket.socket, ended: threading.Semaphore) -> None:
    try:
        while data := target.recv(_CHUNK):
            channel.sendall(data)
        channel.shutdown_write()
    except (OSError, EOFError):
        channel.close()
    ended.release()


def _in(channel: paramiko.Channel, target: socket.socket, ended: threading.Semaphore) -> None:
    try:
        while data := channel.recv(_CHUNK):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except (OSError, EOFError):
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
    ended.release()


def _finish(channel: paramiko.Channel, target: socket.socket, ended: threading.Semaphore) -> None:
    ended.acquire()
    ended.acquire()
    target.close()
    with contextlib.suppress(OSError, EOFError):
        channel.close()
