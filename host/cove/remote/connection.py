"""One SSH connection to a host: commands, and streams to its unix sockets and ports. It is not made anew when it breaks: whoever has it
is told, and makes another.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import paramiko

from cove.errors import RemoteError, TransportError
from cove.machine.remote import Address, fingerprint
from cove.plain import printable
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
# What fails is told by errors; without a handler Python writes what paramiko notes, the host's words in it, to the terminal.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
_CHUNK = 1 << 16
_GLOBAL_REQUEST = 80
"""SSH_MSG_GLOBAL_REQUEST (RFC 4254)."""
_TCP_RXT_CONNDROPTIME = 0x80
"""macOS' netinet/tcp.h: for how many seconds what nobody confirms is sent again. Python has no name for it."""


class Connection(Host):
    """Made by `connect`. Methods are for threads. `on_lost` is called once, in a thread, when it has ended without `close`."""

    def __init__(self, to: Address, transport: _Transport, before: Connection | None, kept: _Ended) -> None:
        self.address = to
        self.host_key = trust.as_text(transport.get_remote_server_key())
        """Its kind and base64."""
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
        """Whether anything comes from the host, in that time, after it was asked.

        What it says in between to something else counts as well: on a slow line that is busy the question waits behind all that is
        being sent. It is ssh(1)'s own (ServerAliveInterval), which needs no session, of which a host allows but a few.
        """
        self._transport.heard.clear()
        # A thread: who sends waits as long as the kernel takes nothing more.
        threading.Thread(target=self._transport.ask, name="connection-asked", daemon=True).start()
        return self._transport.heard.wait(within_s) and self.is_active()

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
                _begin(channel, shlex.join(command), deadline)
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
            raise TransportError(
                f"{what} of {self.address} does not answer: {printable(error.text or str(error))}", hint
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise TransportError(f"{what} of {self.address} does not answer: {printable(_words(error))}") from error


class _Heard:
    """A socket, or a channel, that tells by an event that something has come of it."""

    def __init__(self, sock: socket.socket | paramiko.Channel, heard: threading.Event) -> None:
        self._sock = sock
        self._heard = heard

    def recv(self, size: int) -> bytes:
        data = self._sock.recv(size)
        if data:
            self._heard.set()
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Transport(StreamlocalTransport):
    def __init__(self, sock: socket.socket | paramiko.Channel) -> None:
        self.heard = threading.Event()
        super().__init__(_Heard(sock, self.heard))  # type: ignore[arg-type]

    def ask(self) -> None:
        """Have the host say something: that it does not know this."""
        question = paramiko.Message()
        question.add_byte(bytes([_GLOBAL_REQUEST]))
        question.add_string("keepalive@openssh.com")
        question.add_boolean(True)
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            self._send_user_message(question)


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
    """Blocks, bounded. Raises `RemoteError`; `trust.UnknownHost` when the key of the host, or of one before it, is not known.

    Args:
        host_key: the key that it MUST have; "" for one that the user's known_hosts has.
    """
    return _connect(to, host_key, ())


def shown_keys(to: Address) -> Iterator[str]:
    """The keys that a host shows, each kind that it has one of, whatever known_hosts has. Nobody logs in. Raises as `connect` does."""
    for kinds in trust.KINDS:
        try:
            with _reached(to, ()) as (_, line), contextlib.ExitStack() as ending:
                ending.callback(line.end)
                transport = _greeted(line.sock, kinds)
                ending.callback(transport.close)
                key = trust.as_text(transport.get_remote_server_key())
        except paramiko.ssh_exception.IncompatiblePeer:
            continue
        yield key


def _connect(to: Address, host_key: str, behind: tuple[Address, ...]) -> Connection:
    """``behind``: hosts that are reached through this one, the furthest first."""
    with _reached(to, behind) as (found, line):
        return _made(to, found, line, host_key, is_between=bool(behind))


@dataclass(slots=True)
class _Line:
    """What leads to a host's sshd."""

    sock: socket.socket | paramiko.Channel
    before: Connection | None
    kept: _Ended

    def end(self) -> None:
        self.sock.close()
        self.kept.end()
        if self.before is not None:
            self.before.close()


@contextlib.contextmanager
def _reached(to: Address, behind: tuple[Address, ...]) -> Iterator[tuple[Way, _Line]]:
    """The line is ended when something fails. paramiko's errors and the kernel's become a `RemoteError`, but for `IncompatiblePeer`."""
    found = way.find(to)
    line: _Line | None = None
    try:
        line = _line(found, (*behind, to))
        yield found, line
    except BaseException as error:
        if line is not None:
            line.end()
        if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
            raise
        if isinstance(error, (paramiko.SSHException, OSError, EOFError)):
            raise unreachable(to, _words(error)) from error
        raise


def _line(found: Way, behind: tuple[Address, ...]) -> _Line:
    before: Connection | None = None
    try:
        for jump in found.jumps:
            if jump in behind:
                raise RemoteError(
                    f"the way to {behind[0]} goes in a circle: {jump} is behind itself",
                    f"in {way.config_file()}, let the ProxyJump not be for {jump.host}: Host * !{jump.host}",
                )
            if before is None:
                before = _connect(jump, "", behind)
            else:
                on = way.find(jump)
                line = _Line(before._port(on.host, on.port), before, _Ended(None, True))
                before = _made(jump, on, line, "", is_between=True)
        if before is not None:
            return _Line(before._port(found.host, found.port), before, _Ended(None, True))
    except BaseException:
        if before is not None:
            before.close()
        raise
    if found.command:
        sock, process = _program(found)
        return _Line(sock, None, _Ended(process, True))
    return _Line(_dialled(found), None, _Ended(None, False))


def _made(to: Address, found: Way, line: _Line, host_key: str, *, is_between: bool) -> Connection:
    transport = _vouched(to, found, line.sock, host_key, is_between)
    try:
        login.log_in(transport, found)
        transport.settle()
    except BaseException:
        transport.close()
        raise
    return Connection(to, transport, line.before, line.kept)


def unreachable(to: Address, why: str) -> RemoteError:
    return RemoteError(f"{to} cannot be reached: {why}", f"see whether this works: {to.by_ssh}")


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:.0f} s"
    if "protocol banner" in str(error):  # paramiko's words for a silent one as well
        return "it does not say that it speaks SSH"
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or "the connection ended"


def _dialled(found: Way) -> socket.socket:
    sock = socket.create_connection((found.host, found.port), CONNECT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for number, value in _keeping(sys.platform):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, number, value)
    return sock


def _keeping(system: str) -> list[tuple[int, int]]:
    """TCP's options by which the kernel finds that the host is gone: when a line rests, and when nobody confirms what was sent."""
    limit = SILENT_S + ASKED * ASK_AGAIN_S
    named = {"TCP_KEEPIDLE": SILENT_S, "TCP_KEEPALIVE": SILENT_S, "TCP_KEEPINTVL": ASK_AGAIN_S, "TCP_KEEPCNT": ASKED}
    named["TCP_USER_TIMEOUT"] = limit * 1000  # Linux
    found = [(getattr(socket, name), value) for name, value in named.items() if hasattr(socket, name)]
    return [*found, (_TCP_RXT_CONNDROPTIME, limit)] if system == "darwin" else found


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


def _greeted(sock: socket.socket | paramiko.Channel, kinds: Sequence[str]) -> _Transport:
    """A connection to whoever answers, who has shown a key, of one of ``kinds`` if there are any. Raises `paramiko.SSHException`,
    `OSError`."""
    transport = _Transport(sock)
    try:
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = CONNECT_S
        options = transport.get_security_options()
        if chosen := [kind for kind in options.key_types if kind in kinds]:
            options.key_types = tuple(chosen)
        transport.start_client(timeout=CONNECT_S)
    except BaseException:
        transport.close()
        raise
    return transport


def _vouched(
    to: Address, found: Way, sock: socket.socket | paramiko.Channel, host_key: str, is_between: bool
) -> _Transport:
    """A connection to a host that is who it should be. Raises `RemoteError`, `paramiko.SSHException`, `OSError`."""
    known = [host_key] if host_key else trust.known(found.alias, found.known_files)
    try:  # of its keys it is to show one of these
        transport = _greeted(sock, [kind for key in known for kind in trust.kinds(key)])
    except paramiko.ssh_exception.IncompatiblePeer as error:
        if not known:
            raise unreachable(to, _words(error)) from error
        raise RemoteError(
            f"{to} has no host key any more of the kind that it had before ({known[0].split()[0]})",
            "either it was installed anew, or somebody else answers in its place. Ask whoever runs it for its fingerprint. "
            + _way_out(to, found, host_key, "SHA256:..."),
        ) from error
    try:
        shown = trust.as_text(transport.get_remote_server_key())
        trust.refuse_revoked(str(to), shown, found.alias, found.known_files)
        if shown in known:
            return transport
        if known:
            way_out = _way_out(to, found, host_key, fingerprint(shown))
            raise trust.changed(str(to), known[0], shown, way_out)
        raise trust.UnknownHost(to, shown, is_between)
    except BaseException:
        transport.close()
        raise


def _way_out(to: Address, found: Way, host_key: str, shown: str) -> str:
    if host_key:
        return f"If it is right, pin it: cove machine init --ssh {shlex.quote(str(to))} --host-key {shown} NAME"
    return f"If it is right, take the old one out of known_hosts: ssh-keygen -R {shlex.quote(found.alias)}"


def _begin(channel: paramiko.Channel, command: str, deadline: float) -> None:
    """Raises `TimeoutError`, `paramiko.SSHException`, `OSError`."""
    # paramiko waits without a limit for the host to take it: a login there may hang while its kernel confirms all that is sent.
    late = threading.Timer(max(0.0, deadline - time.monotonic()), channel.close)
    late.daemon = True
    late.start()
    try:
        channel.exec_command(command)
    except paramiko.SSHException:
        if time.monotonic() >= deadline:
            raise TimeoutError from None
        raise
    finally:
        late.cancel()


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
    # A command may end before it has read all, and who runs it then closes the file (ValueError).
    with contextlib.suppress(OSError, EOFError, ValueError):
        if isinstance(stdin, bytes):
            channel.sendall(stdin)
        else:
            while data := stdin.read(_CHUNK):
                channel.sendall(data)
        channel.shutdown_write()
