"""Streams over SSH: paramiko here, OpenSSH in the guest, one connection for all streams."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import paramiko
from paramiko.common import MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA

from cove.errors import TransportError
from cove.transport.base import Reconnecting, Stream

CONNECT_TIMEOUT_S = 60.0
OPEN_TIMEOUT_S = 20.0
_WINDOW = 4 << 20
_KIND = "direct-streamlocal@openssh.com"
_FORWARDED = "forwarded-streamlocal@openssh.com"


def make_key() -> tuple[str, str]:
    """A new ed25519 key: private in OpenSSH's PEM, public as one line."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode("ascii"), public.decode("ascii")


def _within_its_window(take: Callable[[paramiko.Channel, paramiko.Message], None]) -> Callable[..., None]:
    """Raises `paramiko.SSHException`, which ends the connection, as ssh(1) does it: of what nobody reads there may be a window's worth
    (RFC 4254, section 5.2), and paramiko keeps whatever comes."""

    def taken(channel: paramiko.Channel, message: paramiko.Message) -> None:
        take(channel, message)
        if len(channel.in_buffer) + len(channel.in_stderr_buffer) > 2 * _WINDOW:
            raise paramiko.SSHException("the other side sends more than there is room for")

    return taken


class StreamlocalTransport(paramiko.Transport):
    """paramiko opens TCP channels only; OpenSSH's channel to a unix socket has other fields (PROTOCOL, section 2.4)."""

    _channel_handler_table: ClassVar[dict[int, Callable[..., None]]] = {
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
        MSG_CHANNEL_DATA: _within_its_window(paramiko.Channel._feed),  # type: ignore[attr-defined]
        MSG_CHANNEL_EXTENDED_DATA: _within_its_window(paramiko.Channel._feed_extended),  # type: ignore[attr-defined]
    }

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, default_window_size=_WINDOW)
        self._opening = threading.local()

    def settle(self) -> None:
        """To be called once the connection is made: its thread sleeps until something comes.

        paramiko has it look ten times a second for whether the connection is closed, which keeps a processor from sleeping.
        `close` wakes it. Its keepalives need those looks; this computer itself tells when the machine is gone.
        """
        self.sock.settimeout(None)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        super().close()

    def open_streamlocal(self, path: str) -> paramiko.Channel:
        self._opening.path = path
        try:
            return self.open_channel(_KIND, timeout=OPEN_TIMEOUT_S)
        finally:
            self._opening.path = None

    def listen_streamlocal(self, handlers: Mapping[str, Callable[[Stream], None]]) -> None:
        """Have the guest listen on these paths. Nobody waits for its answer: what cannot be had is not there in the guest."""
        if not handlers:
            return

        def opened(channel: paramiko.Channel, _origin: object, server: tuple[str, int]) -> None:
            handler = handlers.get(server[0])
            if handler is None:
                channel.close()
                return
            try:
                threading.Thread(target=handler, args=(ChannelStream(channel),), daemon=True).start()
            except RuntimeError:  # no more threads
                channel.close()

        self._tcp_handler = opened
        for path in handlers:
            self.global_request("streamlocal-forward@openssh.com", (path,), wait=False)

    def _parse_channel_open(self, message: paramiko.Message) -> None:
        """A channel from a unix socket (PROTOCOL, section 2.4) becomes what paramiko knows: one from a TCP port."""
        if message.get_text() == _FORWARDED:
            told = paramiko.Message()
            told.add_string("forwarded-tcpip")
            for _ in range(3):  # channel, window, packet
                told.add_int(message.get_int())
            told.add_string(message.get_string())  # the path
            told.add_int(0)
            told.add_string("")
            told.add_int(0)
            message = told
        message.rewind()
        super()._parse_channel_open(message)  # type: ignore[misc]

    def _send_user_message(self, data: paramiko.Message) -> None:
        path = getattr(self._opening, "path", None)
        if path is not None:
            self._opening.path = None
            data.add_string(path)
            data.add_string("")  # reserved
            data.add_int(0)  # reserved
        super()._send_user_message(data)  # type: ignore[misc]


class SshTransport(Reconnecting[StreamlocalTransport]):
    """`port` is on 127.0.0.1; `key` and `host_key` are files with private keys: ours, and the guest's, which is pinned."""

    def __init__(self, port: int, key: Path, host_key: Path) -> None:
        super().__init__()
        self._port = port
        self._key = paramiko.Ed25519Key.from_private_key_file(str(key))
        self._host_key = paramiko.Ed25519Key.from_private_key_file(str(host_key))

    def open_stream(self, target: str) -> Stream:
        connection = self._connected()
        try:
            return ChannelStream(connection.open_streamlocal(target))
        except (paramiko.SSHException, EOFError, OSError) as error:
            if connection.is_active():
                raise TransportError(f"{target} in the machine does not answer: {error}") from error
        # The connection had broken without our knowing: once more, on a new one.
        try:
            return ChannelStream(self._connected().open_streamlocal(target))
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise TransportError(f"{target} in the machine does not answer: {error}") from error

    def _connect(self) -> StreamlocalTransport:
        connection = None
        try:
            sock = socket.create_connection(("127.0.0.1", self._port), CONNECT_TIMEOUT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = StreamlocalTransport(sock)
            connection.banner_timeout = connection.handshake_timeout = connection.auth_timeout = CONNECT_TIMEOUT_S
            options = connection.get_security_options()
            options.ciphers = ("aes128-gcm@openssh.com", "aes128-ctr")
            options.key_types = ("ssh-ed25519",)
            connection.start_client(timeout=CONNECT_TIMEOUT_S)
            if connection.get_remote_server_key() != self._host_key:
                raise TransportError(
                    "whoever answers for the machine's SSH has another host key",
                    "another program may have its port; stop and start the machine",
                )
            connection.auth_publickey("root", self._key)
            connection.listen_streamlocal(self._services)
            connection.settle()
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, (paramiko.SSHException, EOFError, OSError)):
                raise TransportError(f"no SSH connection into the machine: {error or type(error).__name__}") from error
            raise
        return connection


class ChannelStream(Stream):
    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def recv(self, size: int) -> bytes:
        return self._channel.recv(size)

    def sendall(self, data: bytes) -> None:
        self._channel.sendall(data)

    def shutdown_write(self) -> None:
        try:
            self._channel.shutdown_write()
        except (OSError, EOFError):
            return  # the other side was faster

    def close(self) -> None:
        with contextlib.suppress(OSError, EOFError):  # the connection is gone, and the channel with it
            self._channel.close()
