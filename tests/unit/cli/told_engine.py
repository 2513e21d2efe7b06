"""An engine that answers what a test tells it to, and a terminal to run a command on."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cove.local import sockets

COVE = (sys.executable, "-m", "cove")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    auth: dict[str, str] | None
    body: bytes


class Engine(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """Answers the requests of `answers`, (method, path), with (status, body) and keeps all that come in `requests`."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = sockets.url(path)
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        self.requests: list[Request] = []
        super().__init__(str(path), Handler)
        self._listener = sockets.listen(path, 16)

    def serve_forever(self, poll_interval: float = 0) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                self.process_request(*self._listener.accept())

    def shutdown(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def shutdown_request(self, request: Any) -> None:
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
        request.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: there is no peer address to tell."""

    def _body(self) -> bytes:
        if not self.headers.get("Transfer-Encoding"):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        if path.startswith("/v1."):
            path = path[path.index("/", 1) :]
        body, header = self._body(), self.headers.get("X-Registry-Auth")
        auth = None if header is None else json.loads(base64.urlsafe_b64decode(header))
        status, answer = self.server.answers.get((self.command, path), (404, {"message": "page not found"}))
        if path == "/_ping":
            status, answer = 200, b"OK"
        else:
            self.server.requests.append(Request(self.command, path, dict(parse_qsl(url.query)), auth, body))
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Api-Version", "1.51")
        self.send_header("Ostype", "linux")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_HEAD = do_DELETE = _answer


@contextmanager
def engine_at(path: Path) -> Iterator[Engine]:
    with Engine(path) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


def stream(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """Messages as an engine sends them."""
    return b"".join(json.dumps(message).encode() + b"\r\n" for message in messages)


def on_terminal(
    command: Sequence[str], rows: int, columns: int, environment: Mapping[str, str], typed: Sequence[str] = ()
) -> tuple[int, str]:
    """(status, all that is printed) of `command` on a terminal of its own that translates nothing; each of `typed` is
    typed when something ends in ": ".
    """
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    modes = termios.tcgetattr(theirs)
    modes[1] &= ~termios.OPOST
    termios.tcsetattr(theirs, termios.TCSANOW, modes)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    running = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=dict(environment), start_new_session=True
    )
    os.close(theirs)
    printed, waiting = b"", list(typed)
    try:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: the last of those that hold the other end has gone
                break
            if not data:
                break
            printed += data
            if waiting and printed.endswith(b": "):
                os.write(ours, waiting.pop(0).encode() + b"\n")
        return running.wait(timeout=20), printed.decode()
    finally:
        running.kill()
        running.wait()
        os.close(ours)
