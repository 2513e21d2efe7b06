"""Fetching from git servers: the original protocol, over HTTP and TCP, as far as a build needs it (gitprotocol-pack(5),
gitprotocol-http(5)). All block, and belong in a ``registry.calls.Call``. A server can send what it likes: every answer has bounds.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from coved import __version__
from coved.build.errors import BuildError
from coved.build.remote.git_budget import Budget
from coved.registry import calls
from coved.registry.wire import STALL_SECONDS, Wire, origin

_LINE_MAX = 65520
_REFS_MAX = 1_000_000
_REFS_BYTES_MAX = 128 << 20
_TOLD_EVERY = 1 << 20
_PORT = 9418
_ADVERTISEMENT = "application/x-git-upload-pack-advertisement"
_WANTED_OF_SERVERS = ("side-band-64k", "ofs-delta", "no-progress", "include-tag")


class Refs(NamedTuple):
    """What a server has: names, with "^{}" behind a tag's for what that is of, to commits in hexadecimal."""

    names: Mapping[str, str]
    capabilities: Sequence[str]

    @property
    def default(self) -> str:
        """The branch that HEAD is, or ""."""
        for one in self.capabilities:
            if one.startswith("symref=HEAD:"):
                return one.removeprefix("symref=HEAD:")
        head = self.names.get("HEAD")
        return next((name for name, commit in self.names.items() if commit == head and name != "HEAD"), "")


class Shallow(NamedTuple):
    """What came with a pack: commits whose parents did not."""

    commits: Sequence[str]


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Lines:
    """Pkt-lines (gitprotocol-common(5)): bytes, or None for a flush. ``spend`` is told of all bytes, and raises when it is enough."""

    def __init__(self, source: _Reader, spend: Callable[[int], None]) -> None:
        self._source = source
        self._spend = spend
        self._rest = b""

    def next(self) -> bytes | None:
        """Raises BuildError: also for what the server says instead."""
        text = self._exactly(4)
        try:
            size = int(text, 16)
        except ValueError:
            raise BuildError(f"protocol error: bad line length character: {text!r}") from None
        self._spend(max(size, 4))
        if size < 4:
            return None
        if size > _LINE_MAX:
            raise BuildError(f"protocol error: bad line length {size}")
        line = self._exactly(size - 4)
        if line.startswith(b"ERR "):
            raise BuildError(f"remote error: {_shown(line[4:])}")
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            data = self._source.read(_LINE_MAX)
            if not data:
                raise BuildError("the remote end hung up unexpectedly")
            self._rest += data
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class Server(Protocol):
    def refs(self) -> Refs: ...

    def fetch(self, wants: Sequence[str], *, depth: int, target: Path, meter: Callable[[int], None]) -> Shallow:
        """Writes a pack into a new file ``target``. ``depth`` 0 is the whole history."""
        ...


class HttpServer:
    """``told`` are headers that say who asks: nobody learns of them but the server that ``remote`` names."""

    def __init__(self, wire: Wire, remote: str, told: Mapping[str, str], budget: Budget) -> None:
        self._wire = wire
        self._remote = remote
        self._origin = origin(remote)
        self._told = dict(told)
        self._budget = budget
        self._capabilities: Sequence[str] = ()

    def refs(self) -> Refs:
        with self._wire.send(
            "GET", f"{self._remote}/info/refs?service=git-upload-pack", authorize=self._authorize
        ) as answer:
            if answer.status in (401, 403):
                raise BuildError(f"Authentication failed for '{self._remote}/'")
            if not answer.ok:
                raise BuildError(f"repository '{self._remote}/' not found: the server says {answer.status}")
            if answer.headers.get("content-type", "").split(";")[0].strip() != _ADVERTISEMENT:
                raise BuildError(f"'{self._remote}' is no repository of a server that speaks git's protocol over HTTP")
            lines = _Lines(answer, _refs_limit())
            if not (lines.next() or b"").startswith(b"# service=git-upload-pack") or lines.next() is not None:
                raise BuildError("invalid server response")
            refs = _refs(lines)
            # Where it has moved to is where the rest is as well.
            self._remote = answer.url.partition("/info/refs")[0]
        self._capabilities = refs.capabilities
        return refs

    def fetch(self, wants: Sequence[str], *, depth: int, target: Path, meter: Callable[[int], None]) -> Shallow:
        headers = {
            "Content-Type": "application/x-git-upload-pack-request",
            "Accept": "application/x-git-upload-pack-result",
        }
        body = b"".join(_request(wants, depth, self._capabilities))
        url = f"{self._remote}/git-upload-pack"
        with self._wire.send("POST", url, headers=headers, body=body, authorize=self._authorize) as answer:
            if not answer.ok:
                raise BuildError(f"the server answers {answer.status} to git-upload-pack")
            return _received(_Lines(answer, self._budget.receive), depth, self._capabilities, target, meter)

    def _authorize(self, url: str) -> dict[str, str]:
        if self._told and self._origin[0] == "https" != origin(url)[0]:
            raise BuildError(f"redirected to {url}, which is not encrypted")
        return self._told if origin(url) == self._origin else {}


class SocketServer:
    """A server that is spoken to on one connection, for which ``_connect`` asks for its git-upload-pack."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._socket: socket.socket | None = None
        self._capabilities: Sequence[str] = ()

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.setblocking(False)
                self._socket.send(b"0000")  # nothing more is wanted
            self._socket.close()

    def refs(self) -> Refs:
        self._socket = self._connect()
        refs = _refs(_Lines(_Socket(self._socket), _refs_limit()))
        self._capabilities = refs.capabilities
        return refs

    def fetch(self, wants: Sequence[str], *, depth: int, target: Path, meter: Callable[[int], None]) -> Shallow:
        assert self._socket is not None, "refs come first"
        for piece in _request(wants, depth, self._capabilities):
            self._socket.sendall(piece)
        lines = _Lines(_Socket(self._socket), self._budget.receive)
        return _received(lines, depth, self._capabilities, target, meter)

    def _connect(self) -> socket.socket:
        """Watched by the present call."""
        raise NotImplementedError


class TcpServer(SocketServer):
    """``git://``, which is neither encrypted nor asks anybody who they are."""

    def __init__(self, remote: str, budget: Budget) -> None:
        super().__init__(budget)
        self._remote = remote

    def _connect(self) -> socket.socket:
        parts = urlsplit(self._remote)
        if not parts.hostname or "\0" in self._remote:
            raise BuildError(f"'{self._remote}' has no host")
        sock = _dial(parts.hostname, parts.port or _PORT)
        try:
            sock.sendall(_line(f"git-upload-pack {parts.path}\0host={parts.netloc}\0"))
        except BaseException:
            sock.close()
            raise
        return sock


class _Socket:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def read(self, size: int) -> bytes:
        calls.current().check()
        data = self._socket.recv(size)
        if not data:
            calls.current().check()  # a connection that was given up ends, too
        return data


def _dial(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise BuildError(f"unable to look up {host}") from None
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            calls.current().watch(sock)
            sock.settimeout(STALL_SECONDS)
            sock.connect(address)
        except OSError as error:
            sock.close()
            calls.current().check()
            failure = failure or error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    words = os.strerror(failure.errno) if failure is not None and failure.errno else "timed out"
    raise BuildError(f"unable to connect to {host}:{port}: {words}")


def _refs_limit() -> Callable[[int], None]:
    left = _REFS_BYTES_MAX

    def spend(size: int) -> None:
        nonlocal left
        left -= size
        if left < 0:
            raise BuildError(f"the repository's refs are longer than {_REFS_BYTES_MAX} bytes")

    return spend


def _refs(lines: _Lines) -> Refs:
    names: dict[str, str] = {}
    capabilities: list[str] = []
    first = True
    while (line := lines.next()) is not None:
        text, _, more = line.rstrip(b"\n").partition(b"\0")
        if first:
            capabilities = more.decode("utf-8", "surrogateescape").split()
            first = False
        commit, _, name = text.decode("utf-8", "surrogateescape").partition(" ")
        if name and name != "capabilities^{}" and commit != "shallow":
            names[name] = commit
        if len(names) > _REFS_MAX:
            raise BuildError(f"the repository has more than {_REFS_MAX} refs")
    if any(one.startswith("object-format=") and one != "object-format=sha1" for one in capabilities):
        raise BuildError("repositories with SHA-256 names are not supported")
    return Refs(names, capabilities)


def _request(wants: Sequence[str], depth: int, capabilities: Sequence[str]) -> Iterator[bytes]:
    if depth and "shallow" not in capabilities:
        depth = 0
    asked = [*(one for one in _WANTED_OF_SERVERS if one in capabilities), f"agent=cove/{__version__}"]
    for number, want in enumerate(wants):
        yield _line(f"want {want} {' '.join(asked)}\n" if number == 0 else f"want {want}\n")
    if depth:
        yield _line(f"deepen {depth}\n")
    yield b"0000"
    yield _line("done\n")


def _line(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return b"%04x" % (len(data) + 4) + data


def _received(
    lines: _Lines, depth: int, capabilities: Sequence[str], target: Path, meter: Callable[[int], None]
) -> Shallow:
    shallow: list[str] = []
    if depth and "shallow" in capabilities:
        while (line := lines.next()) is not None:
            word, _, commit = line.decode("ascii", "replace").strip().partition(" ")
            if word == "shallow":
                shallow.append(commit)
    answer = lines.next() or b""
    if not answer.startswith((b"NAK", b"ACK")):
        raise BuildError(f"git fetch-pack: expected ACK/NAK, got '{_shown(answer)}'")
    if "side-band-64k" not in capabilities:
        raise BuildError("the server's git is too old: it has no side-band-64k")
    done = told = 0
    with _writing(target) as write:
        while (line := lines.next()) is not None:
            if line[:1] == b"\1":
                write(line[1:])
                done += len(line) - 1
                if done - told >= _TOLD_EVERY:
                    told = done
                    meter(done)
            elif line[:1] == b"\3":
                raise BuildError(f"remote error: {_shown(line[1:])}")
    meter(done)
    return Shallow(shallow)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[Callable[[bytes], object]]:
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb", 1 << 20) as file:
        yield file.write


def _shown(data: bytes) -> str:
    return data[:1000].decode("utf-8", "replace").strip()
