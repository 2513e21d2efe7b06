"""Questions to an engine that runs already, within a bound of time. Light to import: completion asks too."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from cove.local.sockets import connect

MAX_ANSWER = 4 << 20


class Refusal(ValueError):
    """The engine's own answer that it does not do this: `status` of HTTP, and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def get(path: Path, target: str, deadline: float) -> Any:
    """What the engine at the socket `path` answers to a GET, by `deadline` (of `time.monotonic`).

    Raises `Refusal`; `TimeoutError` and other `OSError`s when nothing answers, `ValueError` for what is no answer.
    """
    with connect(path, _left(deadline)) as sock:
        sock.settimeout(_left(deadline))
        # HTTP/1.0: the answer is what comes until the connection ends, in one piece (RFC 1945, section 7.2.2).
        sock.sendall(f"GET {target} HTTP/1.0\r\nHost: docker\r\nUser-Agent: cove\r\n\r\n".encode())
        parts, size = [], 0
        while chunk := _receive(sock, deadline):
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER:
                raise ValueError("the answer is too long")
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    line = head.split(b" ", 2)
    if not line[0].startswith(b"HTTP/1.") or len(line) < 2 or not line[1].isdigit():
        raise ValueError("what answers does not speak HTTP")
    status = int(line[1])
    if status >= 400:
        try:
            message = str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            message = f"status {status}"
        raise Refusal(status, message)
    try:
        return body.decode("utf-8", "replace") if b"text/plain" in head else json.loads(body)
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None


def _receive(sock: socket.socket, deadline: float) -> bytes:
    sock.settimeout(_left(deadline))
    return sock.recv(1 << 16)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("it did not answer in time")
    return left
