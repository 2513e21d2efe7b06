"""An engine that does nothing and answers at once: what the docker CLI itself takes for a command, and no engine can go below.

It knows the calls of the commands that bench_engine.py times, for containers and networks of any name. Its own part is some
tens of microseconds a call.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

ID = "c" * 64
CONTAINER: dict[str, Any] = {
    "Id": ID,
    "Name": "/instant",
    "State": {"Status": "running", "Running": True},
    "Config": {"Tty": False},
    "HostConfig": {"NetworkMode": "none"},
}
ENDED = {"ID": ID, "Running": False, "ExitCode": 0, "ContainerID": ID}
ANSWERS: dict[str, Any] = {
    "/json": CONTAINER,
    "/create": {"Id": ID, "Warnings": []},
    "/exec": {"Id": ID},
    "/wait": {"StatusCode": 0},
    f"/exec/{ID}/json": ENDED,
    "/containers/json": [],
}
UPGRADED = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)


def answer(method: str, path: str) -> bytes:
    """The whole answer to a call. An upgraded connection has nothing more to say."""
    if method == "POST" and (path.endswith("/attach") or ("/exec/" in path and path.endswith("/start"))):
        return UPGRADED
    body = b""
    if method in ("GET", "POST"):
        known = max((end for end in ANSWERS if path.endswith(end)), key=len, default=None)
        body = json.dumps(ANSWERS[known]).encode() if known else b""
    status = "200 OK" if body or method == "HEAD" else "204 No Content"
    if path.endswith(("/create", "/exec")):
        status = "201 Created"
    length = f"Content-Length: {len(body)}\r\n" if status[:3] != "204" else ""
    return f"HTTP/1.1 {status}\r\nApi-Version: 1.51\r\nContent-Type: application/json\r\n{length}\r\n".encode() + body


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._data = b""

    def take(self) -> bool:
        """Answers what has come. False at the connection's end."""
        more = self._socket.recv(1 << 16)
        self._data += more
        while more:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            if not found or len(rest) < size:
                return True
            self._data = rest[size:]
            method, target, _ = head.partition(b"\r\n")[0].decode().split(" ")
            told = answer(method, target.partition("?")[0])
            self._socket.sendall(told)
            if told is UPGRADED:
                return False
        return False

    def close(self) -> None:
        self._socket.close()


def serve(listener: socket.socket) -> NoReturn:
    poll = select.epoll()
    clients: dict[int, Client] = {}
    poll.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                sock, _ = listener.accept()
                clients[sock.fileno()] = Client(sock)
                poll.register(sock, select.EPOLLIN)
                continue
            going = False
            with contextlib.suppress(OSError):
                going = clients[fd].take()
            if not going:
                clients.pop(fd).close()


@contextlib.contextmanager
def instant_engine() -> Iterator[str]:
    """Its socket, as DOCKER_HOST has it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder, "docker.sock")
        listener.bind(str(path))
        listener.listen(64)
        pid = os.fork()
        if pid == 0:
            try:
                serve(listener)
            finally:
                os._exit(1)
        try:
            yield f"unix://{path}"
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
