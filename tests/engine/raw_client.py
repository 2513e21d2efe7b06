"""HTTP on the engine's socket without a client library's own ideas of what may be asked."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        message = self.json()["message"]
        assert isinstance(message, str)
        return message


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = connect(self._path, self.timeout or 30.0)


def connect(path: str, timeout: float = 30.0) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(timeout)
    client.connect(path)
    return client


def ask(
    path: str,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    limit: int = -1,
    timeout: float = 30.0,
) -> Answer:
    """One request on a connection of its own. ``limit`` bytes of the body are enough for an answer without an end."""
    connection = _Connection(path, timeout)
    try:
        connection.request(method, target, body=body, headers=headers or {})
        response = connection.getresponse()
        data = response.read() if limit < 0 else response.read1(limit)
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, data)
    finally:
        connection.close()


def ask_json(path: str, method: str, target: str, document: Any = None, **more: Any) -> Answer:
    """A request with a JSON body, or without any."""
    if document is None:
        return ask(path, method, target, **more)
    return ask(path, method, target, json.dumps(document).encode(), {"Content-Type": "application/json"}, **more)


def hijack(path: str, target: str, document: Any = None) -> tuple[Answer, socket.socket]:
    """A POST that asks for the connection; the head of the answer, and the socket when it is 101."""
    body = json.dumps(document).encode() if document is not None else b""
    lines = [f"POST {target} HTTP/1.1", "Host: docker", "Connection: Upgrade", "Upgrade: tcp"]
    lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    client = connect(path)
    client.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        assert byte, f"the connection ended within the head: {head!r}"
        head += byte
    status, *fields = head.decode().strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    rest = b"" if status.split()[1] == "101" else client.recv(int(headers.get("content-length", "0")))
    return Answer(int(status.split()[1]), headers, rest), client


def descriptors(engine: Any) -> list[str]:
    """What the engine's process has open."""
    found = []
    for entry in Path(f"/proc/{engine.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry))
    return sorted(found)


def settled(engine: Any, wanted: int) -> int:
    """How many descriptors the engine has open, when it has had time to close what its clients left."""
    deadline = time.monotonic() + 60
    while (count := len(descriptors(engine))) > wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return count


def log_of(engine: Any) -> str:
    return (engine.folder / "log").read_text("utf-8", "replace")
