"""A thin client of the Docker Engine API over a unix socket, or a named pipe.

h11 keeps the protocol; nothing here imports http.client or requests, which cost more than a whole command may.
Requests carry no API version: the engine then answers in its own newest one, and no round trip is spent on agreeing.
"""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h11

from cove.cli.errors import ConnectionFailed, DaemonError
from cove.local.sockets import EXAMPLE, KIND, at, connect, url

if TYPE_CHECKING:
    from cove.cli.upload import Uploader

CONNECT_TIMEOUT_S = 10.0
CHUNK = 65536
DOWN = "down"
"""Beside a machine's socket while whoever connects would wait for its start without seeing its progress (`MachinePaths.down`)."""
MAX_ERROR_BODY = 1 << 20
IDEMPOTENT = ("GET", "HEAD")
"""Methods of which a second request does no harm; none of ours carries an upload."""
LOST = 502
"""What a machine's agent answers in place of an engine that has ended. The engine does not."""

Query = Mapping[str, "str | int | bool | Iterable[str] | None"]


def quote(text: str) -> str:
    """Percent-encode `text` for use in a path or a query (RFC 3986; urllib costs 5 ms to import for this)."""
    return "".join(
        chr(byte) if (chr(byte).isalnum() and byte < 128) or byte in b"-._~" else f"%{byte:02X}"
        for byte in text.encode()
    )


def query_string(query: Query) -> str:
    """`?a=1&b=2`; None and False leave a parameter out, True is 1, other iterables repeat it."""
    pairs: list[str] = []
    for key, value in query.items():
        if value is None or value is False:
            continue
        if value is True:
            value = "1"
        items = [value] if isinstance(value, str | int) else value
        pairs += [f"{key}={quote(str(item))}" for item in items]
    return "?" + "&".join(pairs) if pairs else ""


class Response:
    """The head of an answer, and its body as it comes."""

    def __init__(
        self, sock: socket.socket, protocol: h11.Connection, head: h11.Response, uploader: Uploader | None = None
    ) -> None:
        self.status = head.status_code
        self.headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        self._sock = sock
        self._protocol = protocol
        self._uploader = uploader

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                event = _next_event(self._sock, self._protocol)
            except (OSError, h11.RemoteProtocolError) as error:
                _check_upload(self._uploader)
                raise ConnectionFailed("the engine closed the connection in the middle of an answer") from error
            if not isinstance(event, h11.Data):
                return  # the end of the message; h11 accepts nothing else after a head
            yield bytes(event.data)

    def read(self) -> bytes:
        return b"".join(self)

    def json_lines(self) -> Iterator[dict[str, Any]]:
        """The objects of a stream of JSON, one per line or back to back. Raises `ConnectionFailed` for anything else."""
        decoder = json.JSONDecoder()
        buffer = ""
        pending = b""
        try:
            for chunk in self:
                pending += chunk
                cut = pending.rfind(b"\n") + 1
                buffer, pending = buffer + pending[:cut].decode(), pending[cut:]
                while buffer := buffer.lstrip():
                    value, end = decoder.raw_decode(buffer)
                    yield _object(value)
                    buffer = buffer[end:]
            if rest := pending.decode().strip():
                yield _object(json.loads(rest))
        except ValueError as error:
            raise ConnectionFailed("the engine answered with something that is not JSON") from error

    def close(self) -> None:
        self._sock.close()


class Hijacked:
    """A connection that the engine has turned into a byte stream. `pending` came in with the head of the answer."""

    def __init__(self, sock: socket.socket, pending: bytes, content_type: str) -> None:
        self.sock = sock
        self.pending = pending
        self.multiplexed = content_type == "application/vnd.docker.multiplexed-stream"

    def close_write(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the other side was faster

    def close(self) -> None:
        self.sock.close()


class EngineClient:
    """Requests to one engine. `path` is its socket; with `machine`, a machine that is started when nothing answers
    there.
    """

    def __init__(self, path: Path, machine: str | None = None) -> None:
        self.path = path
        self.machine = machine
        self._idle: tuple[socket.socket, h11.Connection] | None = None

    @classmethod
    def from_environment(cls, machine: str | None = None, host: str | None = None) -> EngineClient:
        """`host` or COVE_HOST (unix:///path, on Windows npipe:////./pipe/NAME) points at any engine, otherwise `machine` or
        COVE_MACHINE names a machine.
        """
        host = host or (None if machine else os.environ.get("COVE_HOST"))
        if host:
            if (path := at(host)) is None:
                raise ConnectionFailed(
                    f"{host!r} is not the address of an engine\n      it must be a {KIND}: COVE_HOST={EXAMPLE}"
                )
            return cls(path)
        from cove.machine.paths import DEFAULT_MACHINE, MachinePaths

        name = machine or os.environ.get("COVE_MACHINE") or DEFAULT_MACHINE
        return cls(MachinePaths(name).docker_socket, name)

    def connect(self) -> socket.socket:
        """A new connection; starts the machine when nothing answers. Raises `ConnectionFailed`, `CoveError`."""
        try:
            if self.machine is None or not self.path.with_name(DOWN).exists():
                return self._connect()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if self.machine is None:
                raise ConnectionFailed(
                    f"Cannot connect to the Docker daemon at {url(self.path)}. Is the docker daemon running?"
                ) from error
        except OSError as error:
            raise ConnectionFailed(f"cannot connect to {self.path}: {error.strerror or error}") from error
        self._start_machine(self.machine)
        try:
            return self._connect()
        except OSError as error:
            raise ConnectionFailed(
                f"the machine runs, but {self.path} does not answer: {error.strerror or error}"
            ) from error

    def _connect(self) -> socket.socket:
        return connect(self.path, CONNECT_TIMEOUT_S)

    def _start_machine(self, name: str) -> None:
        # Only a first or a stopped machine comes here; bars and all that are not for every command to import.
        from cove import progress
        from cove.agent.launch import ensure_running
        from cove.cli import lost_ports
        from cove.machine.paths import MachinePaths

        known = MachinePaths(name).folder.is_dir()
        title = "Cove is starting its machine" if known else "Cove is setting up its machine (once, about a minute)"
        with progress.renderer(title) as report:
            self.path = ensure_running(name, report)
        lost_ports.told(name)

    def send(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        *,
        upload: Iterable[bytes] | None = None,
        content_type: str = "application/json",
        headers: Iterable[tuple[str, str]] = (),
        aside: bool = False,
    ) -> Response:
        """Send a request; return the answer whatever its status, the body unread. `body` is sent as JSON, `upload` in
        chunks, and with `aside` while the answer is read already.
        """
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        head = [("Host", "docker"), ("User-Agent", "cove"), *headers]
        if upload is not None:
            head += [("Transfer-Encoding", "chunked"), ("Content-Type", content_type)]
        elif body is not None:
            head += [("Content-Type", content_type), ("Content-Length", str(len(data)))]
        elif method == "POST":
            head += [("Content-Length", "0")]
        request = h11.Request(method=method, target=path + query_string(query or {}), headers=head)
        sock, protocol, kept = self._take()
        uploader = None
        try:
            message = (protocol.send(request) or b"") + (protocol.send(h11.Data(data=data)) or b"" if data else b"")
            if upload is None:
                message += protocol.send(h11.EndOfMessage()) or b""
            sock.sendall(message)
            if upload is not None and aside:
                from cove.cli.upload import Uploader

                uploader = Uploader(sock, upload, protocol.send(h11.EndOfMessage()) or b"")
                uploader.start()
            elif upload is not None:
                self._upload(sock, protocol, upload)
            event = _next_event(sock, protocol)
            while isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                event = _next_event(sock, protocol)
            if not isinstance(event, h11.Response):
                raise h11.RemoteProtocolError("no answer")
            self._check_lost(event.status_code)
        except (OSError, h11.RemoteProtocolError) as error:
            sock.close()
            _check_upload(uploader)
            if kept and method in IDEMPOTENT and (isinstance(error, OSError) or protocol.trailing_data[1]):
                # The engine ended between the look at the connection and the request (RFC 9112, section 9.3.1).
                return self.send(method, path, query, body, headers=headers)
            raise self._failed(error, protocol) from error
        return Response(sock, protocol, event, uploader)

    def _upload(self, sock: socket.socket, protocol: h11.Connection, upload: Iterable[bytes]) -> None:
        try:
            for chunk in upload:
                if chunk:
                    sock.sendall(protocol.send(h11.Data(data=chunk)) or b"")
            sock.sendall(protocol.send(h11.EndOfMessage()) or b"")
        except (BrokenPipeError, ConnectionResetError):
            return  # the engine refused before the end; its answer says why

    def _take(self) -> tuple[socket.socket, h11.Connection, bool]:
        """A connection, and whether it has been used before."""
        if self._idle is not None:
            (sock, protocol), self._idle = self._idle, None
            if not select.select([sock], [], [], 0)[0]:
                return sock, protocol, True
            sock.close()  # the engine has ended while nobody asked: there is nothing else that it could have to say
        return self.connect(), h11.Connection(our_role=h11.CLIENT), False

    def _check_lost(self, status: int) -> None:
        """Raises `OSError` for what the agent answers when the machine has ended: here more is known of that (`cove.cli.ended`)."""
        if status == LOST and self.machine is not None:
            raise ConnectionResetError

    def _failed(self, error: Exception, protocol: h11.Connection) -> ConnectionFailed:
        """What a user is told of a request without an answer."""
        if isinstance(error, OSError) or protocol.trailing_data[1]:
            look = (
                "whether it still runs"
                if self.machine is None
                else f"how it is with: cove machine status {self.machine}"
            )
            return ConnectionFailed(
                f"the engine at {self.path} closed the connection\n"
                f"      see {look}; what was asked for may have been done: look before you try again"
            )
        return ConnectionFailed(
            f"what answers at {self.path} is not a Docker engine: it does not speak HTTP/1.1\n"
            "      give the docker socket of one with -H or COVE_HOST, or leave both out for Cove's own machine"
        )

    def _give_back(self, response: Response) -> None:
        protocol, sending = response._protocol, response._uploader is not None
        if not sending and self._idle is None and protocol.our_state is h11.DONE and protocol.their_state is h11.DONE:
            protocol.start_next_cycle()
            self._idle = (response._sock, protocol)
        else:
            response.close()

    def request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        *,
        upload: Iterable[bytes] | None = None,
        content_type: str = "application/json",
        headers: Iterable[tuple[str, str]] = (),
        aside: bool = False,
    ) -> Response:
        """`send`, but an answer of 400 and above raises `DaemonError`."""
        response = self.send(
            method, path, query, body, upload=upload, content_type=content_type, headers=headers, aside=aside
        )
        if response.status >= 400:
            raise self.error(response)
        return response

    def error(self, response: Response) -> DaemonError:
        """The answer as an error, its body read and its connection free for the next request."""
        data = b""
        for chunk in response:
            data += chunk
            if len(data) > MAX_ERROR_BODY:
                break
        self._give_back(response)
        try:
            reason = str(json.loads(data)["message"])
        except (ValueError, KeyError, TypeError):
            reason = data.decode(errors="replace").strip() or f"status {response.status}"
        return DaemonError(response.status, reason)

    def json(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        *,
        upload: Iterable[bytes] | None = None,
        content_type: str = "application/json",
        headers: Iterable[tuple[str, str]] = (),
    ) -> Any:
        """A request whose whole answer is one JSON value, or nothing (None)."""
        response = self.request(method, path, query, body, upload=upload, content_type=content_type, headers=headers)
        data = response.read()
        self._give_back(response)
        if not data:
            return None
        try:
            return json.loads(data)
        except ValueError as error:
            raise ConnectionFailed(f"the engine answered {method} {path} with something that is not JSON") from error

    def head(self, path: str, query: Query | None = None) -> Response:
        """The head of an answer, its connection free for the next request. Raises `DaemonError`."""
        response = self.request("HEAD", path, query)
        response.read()
        self._give_back(response)
        return response

    def hijack(
        self,
        path: str,
        query: Query | None = None,
        body: Any = None,
        *,
        upgrade: str = "tcp",
        headers: Iterable[tuple[str, str]] = (),
    ) -> Hijacked:
        """POST `path` and take over the connection, which then speaks `upgrade`. Raises `DaemonError`."""
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        head = [("Host", "docker"), ("User-Agent", "cove"), ("Connection", "Upgrade"), ("Upgrade", upgrade), *headers]
        head += [("Content-Length", str(len(data))), ("Content-Type", "application/json")]
        sock, protocol = self.connect(), h11.Connection(our_role=h11.CLIENT)
        request = h11.Request(method="POST", target=path + query_string(query or {}), headers=head)
        try:
            message = (protocol.send(request) or b"") + (protocol.send(h11.Data(data=data)) or b"" if data else b"")
            sock.sendall(message + (protocol.send(h11.EndOfMessage()) or b""))
            event = _next_event(sock, protocol)
            if not isinstance(event, h11.Response | h11.InformationalResponse):
                raise h11.RemoteProtocolError("no answer")
            self._check_lost(event.status_code)
        except (OSError, h11.RemoteProtocolError) as error:
            sock.close()
            raise self._failed(error, protocol) from error
        if event.status_code >= 400:
            assert isinstance(event, h11.Response)
            raise self.error(Response(sock, protocol, event))
        content_type = dict(event.headers).get(b"content-type", b"").decode("latin-1")
        return Hijacked(sock, bytes(protocol.trailing_data[0]), content_type)


def _check_upload(uploader: Uploader | None) -> None:
    """Raise what has kept the body of a request from being sent."""
    if uploader is not None and uploader.failure is not None:
        raise uploader.failure


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is no object")
    return value


def _next_event(sock: socket.socket, protocol: h11.Connection) -> Any:
    while True:
        event = protocol.next_event()
        if event is not h11.NEED_DATA:
            return event
        protocol.receive_data(sock.recv(CHUNK))


def filters(given: Iterable[str]) -> str | None:
    """`key=value` filters as the API's JSON: {"key": {"value": true}}; None for no filter."""
    result: dict[str, dict[str, bool]] = {}
    for item in given:
        key, _, value = item.partition("=")
        result.setdefault(key.strip().lower(), {})[value.strip()] = True
    return json.dumps(result, separators=(",", ":"), sort_keys=True) if result else None
