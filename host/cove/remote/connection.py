"""One SSH connection to a host: commands, and streams to its unix sockets and ports. It is not made anew when it breaks: whoever has it
is told, and makes another.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO

import paramiko

from cove.errors import CoveError, RemoteError, TransportError
from cove.machine.remote import Address, fingerprint
from cove.remote import login, trust, way
from cove.remote.host import Host, Ran
from cove.remote.way import Way
from cove.transport.base import Stream
from cove.transport.ssh import OPEN_TIMEOUT_S, ChannelStream, StreamlocalTransport

CONNECT_S = 20.0
SILENT_S, ASK_AGAIN_S, ASKED = 15, 5, 3
"""A host that says nothing for so long is asked, again and again, and so often: then the connection is broken (tcp(7))."""
BEHIND_S = 30.0
"""How often a host behind another one is asked."""
MAX_OUTPUT = 4 << 20
"""Bytes of what a command says on each of its two ways out."""
_CHUNK = 1 << 16


class Connection(Host):
    """Made by `connect`. Methods are for threads. `on_lost` is called once, in a thread, when it has ended without `close`."""

    def __init__(self, to: Address, transport: StreamlocalTransport, before: Connection | None, kept: _Ended) -> None:
        self.address = to
        self._transport = transport
        self._before = before
        self._kept = kept
        self._closed = threading.Event()

    def watch(self, on_lost: Callable[[], None]) -> None:
        def wait() -> None:
            self._transport.join()
            self._kept.end()
            if not self._closed.is_set():
                on_lost()

        threading.Thread(target=wait, name="connection", daemon=True).start()
        if self._kept.is_behind:
            threading.Thread(target=self._ask, name="connection-alive", daemon=True).start()

    def _ask(self) -> None:
        """The kernel knows only the nearest host."""
        while not self._closed.wait(BEHIND_S) and self.is_active():
            if not self.answers(CONNECT_S):
                self._transport.close()

    def answers(self, within_s: float) -> bool:
        """Whether the host says something, in that time."""
        try:
            self._transport.open_session(timeout=within_s).close()
        except (paramiko.SSHException, OSError, EOFError):
            return False
        return True

    @property
    def host_key(self) -> str:
        """Its kind and base64."""
        return trust.as_text(self._transport.get_remote_server_key())

    def is_active(self) -> bool:
        return self._transport.is_active()

    def close(self) -> None:
        self._closed.set()
        self._transport.close()
        self._kept.end()
        if self._before is not None:
            self._before.close()

    def run(self, command: Sequence[str], *, stdin: BinaryIO | bytes = b"", timeout_s: float) -> Ran:
        deadline = time.monotonic() + timeout_s
        try:
            channel = self._transport.open_session(timeout=min(timeout_s, OPEN_TIMEOUT_S))
            with contextlib.closing(channel):
                channel.exec_command(shlex.join(command))
                return _ran(channel, stdin, deadline)
        except TimeoutError:
            raise RemoteError(
                f"{self.address}: a command did not end within {timeout_s:.0f} s", f"it was {shlex.join(command)[:200]}"
            ) from None
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise RemoteError(f"{self.address}: the connection broke: {_words(error)}") from error

    def open_stream(self, target: str) -> Stream:
        return self._open(target, lambda: self._transport.open_streamlocal(target))

    def open_port(self, host: str, port: int) -> Stream:
        """To a TCP port that the host reaches. Raises `TransportError`."""
        return self._open(f"port {port}", lambda: self._port(host, port))

    def _port(self, host: str, port: int) -> paramiko.Channel:
        return self._transport.open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=OPEN_TIMEOUT_S)

    def _open(self, what: str, call: Callable[[], paramiko.Channel]) -> Stream:
        try:
            return ChannelStream(call())
        except paramiko.ChannelException as error:
            hint = ""
            if error.code == 1:
                hint = "its sshd forbids it: AllowStreamLocalForwarding and AllowTcpForwarding in sshd_config(5)"
            raise TransportError(f"{what} of {self.address} does not answer: {error.text or error}", hint) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise TransportError(f"{what} of {self.address} does not answer: {_words(error)}") from error


class _Ended:
    """What has to be ended with a connection: the program that carries it."""

    def __init__(self, process: subprocess.Popen[bytes] | None, is_behind: bool) -> None:
        self._process = process
        self.is_behind = is_behind

    def end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()
            self._process.wait()


def connect(to: Address, host_key: str = "") -> Connection:
    """Blocks, bounded. Raises `RemoteError`; `trust.UnknownHost` when the key is not known.

    Args:
        host_key: the key that it MUST have; "" for one that the user's known_hosts has.
    """
    found = way.find(to)
    before: Connection | None = None
    made: list[paramiko.Transport] = []
    kept = _Ended(None, bool(found.jumps or found.command))
    try:
        for jump in found.jumps:
            before = _through(before, jump)
        sock: socket.socket | paramiko.Channel
        if before is not None:
            sock = before._port(found.host, found.port)
        elif found.command:
            sock, process = _program(found)
            kept = _Ended(process, True)
        else:
            sock = _dialled(found)
        transport = _greeted(to, found, sock, host_key, made)
        login.log_in(transport, found)
        transport.settle()
    except BaseException as error:
        for one in made:
            one.close()
        kept.end()
        if before is not None:
            before.close()
        if isinstance(error, CoveError):
            raise
        if isinstance(error, (paramiko.SSHException, OSError, EOFError)):
            raise unreachable(to, _words(error)) from error
        raise
    return Connection(to, transport, before, kept)


def unreachable(to: Address, why: str) -> RemoteError:
    return RemoteError(f"{to} cannot be reached: {why}", f"see whether this works: ssh {to}")


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:.0f} s"
    if "protocol banner" in str(error):  # paramiko's words for a silent one as well
        return "it does not say that it speaks SSH"
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or "the connection ended"


def _through(before: Connection | None, jump: Address) -> Connection:
    if before is None:
        return connect(jump)
    found = way.find(jump)
    made: list[paramiko.Transport] = []
    try:
        transport = _greeted(jump, found, before._port(found.host, found.port), "", made)
        login.log_in(transport, found)
        transport.settle()
    except BaseException:
        for one in made:
            one.close()
        before.close()
        raise
    return Connection(jump, transport, before, _Ended(None, True))


def _dialled(found: Way) -> socket.socket:
    sock = socket.create_connection((found.host, found.port), CONNECT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": SILENT_S, "TCP_KEEPALIVE": SILENT_S, "TCP_KEEPINTVL": ASK_AGAIN_S, "TCP_KEEPCNT": ASKED}
    # Of what was sent and nobody has confirmed: Linux; and macOS.
    options |= {"TCP_USER_TIMEOUT": (SILENT_S + ASKED * ASK_AGAIN_S) * 1000, "TCP_CONNECTION_TIMEOUT": SILENT_S}
    for name, value in options.items():
        if (number := getattr(socket, name, None)) is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, number, value)
    return sock


def _program(found: Way) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    if sys.platform == "win32":
        raise RemoteError("ProxyCommand is not for Windows yet", "use ProxyJump in your ~/.ssh/config")
    ours, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            f"exec {found.command}",
            shell=True,
            stdin=its.fileno(),
            stdout=its.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    ours.settimeout(CONNECT_S)
    return ours, process


def _greeted(
    to: Address, found: Way, sock: socket.socket | paramiko.Channel, host_key: str, made: list[paramiko.Transport]
) -> StreamlocalTransport:
    """A connection to a host that is who it should be. Raises `RemoteError`, `paramiko.SSHException`, `OSError`."""
    transport = StreamlocalTransport(sock)  # type: ignore[arg-type]
    made.append(transport)
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = CONNECT_S
    known = [host_key] if host_key else trust.known(found.alias)
    if known:  # of its keys it is to show one of these
        options = transport.get_security_options()
        wanted = [kind for key in known for kind in trust.kinds(key)]
        if chosen := [kind for kind in options.key_types if kind in wanted]:
            options.key_types = tuple(chosen)
    try:
        transport.start_client(timeout=CONNECT_S)
    except paramiko.ssh_exception.IncompatiblePeer as error:
        if not known:
            raise
        raise RemoteError(
            f"{to} has no host key any more of the kind that it had before ({known[0].split()[0]})",
            "either it was installed anew, or somebody else answers in its place. Ask whoever runs it for its fingerprint, and pin"
            f" that: cove machine init --ssh {to} --host-key SHA256:... NAME",
        ) from error
    shown = trust.as_text(transport.get_remote_server_key())
    if shown in known:
        return transport
    if host_key:
        raise trust.changed(
            str(to),
            host_key,
            shown,
            f"If it is right, pin it: cove machine init --ssh {to} --host-key {fingerprint(shown)} NAME",
        )
    if known:
        raise trust.changed(
            str(to),
            known[0],
            shown,
            f"If it is right, take the old one out of known_hosts: ssh-keygen -R '{found.alias}'",
        )
    raise trust.UnknownHost(
        f"nobody has said yet that {to} is who it says: its {shown.split()[0]} key is {fingerprint(shown)}",
        f"compare it with what whoever runs it says, and give it: --host-key {fingerprint(shown)}; or connect once"
        f" with: ssh {to}",
        shown,
    )


def _ran(channel: paramiko.Channel, stdin: BinaryIO | bytes, deadline: float) -> Ran:
    """Raises `TimeoutError`, `paramiko.SSHException`, `OSError`."""
    said: dict[str, bytes] = {}
    reading = [
        threading.Thread(target=lambda: said.__setitem__("out", _bounded(channel.recv)), daemon=True),
        threading.Thread(target=lambda: said.__setitem__("err", _bounded(channel.recv_stderr)), daemon=True),
    ]
    feeding = threading.Thread(target=_feed, args=(channel, stdin), daemon=True)
    for thread in (*reading, feeding):
        thread.start()
    for thread in reading:
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            raise TimeoutError
    if not channel.status_event.wait(max(0.1, deadline - time.monotonic())) or channel.exit_status < 0:
        if channel.get_transport().is_active() and not channel.closed:
            raise TimeoutError
        raise OSError("it ended before the command did")
    return Ran(channel.exit_status, said["out"], said["err"])


def _bounded(read: Callable[[int], bytes]) -> bytes:
    """To the end; the beginning of what is too much."""
    kept = bytearray()
    with contextlib.suppress(OSError):
        while data := read(_CHUNK):
            kept += data[: MAX_OUTPUT - len(kept)]
    return bytes(kept)


def _feed(channel: paramiko.Channel, stdin: BinaryIO | bytes) -> None:
    with contextlib.suppress(OSError, EOFError):  # a command may end before it has read all
        if isinstance(stdin, bytes):
            channel.sendall(stdin)
        else:
            while data := stdin.read(_CHUNK):
                channel.sendall(data)
        channel.shutdown_write()
