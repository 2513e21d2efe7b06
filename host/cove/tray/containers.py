"""Containers as a menu shows them: those of Docker's API, again whenever an event says so, for as long as somebody looks."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from cove.agent import unattended
from cove.errors import CoveError
from cove.local.sockets import connect
from cove.machine import engine
from cove.machine.paths import MachinePaths

log = logging.getLogger(__name__)

ANSWER_S = 10.0
LOOKED_S = 120.0
"""The longest time for which events are followed: not each desktop tells that a menu was closed, and a follower keeps a machine awake."""
_CHUNK = 1 << 16
_MAX_HEAD = 64 << 10
_FILTERS = {
    "type": ["container"],
    "event": ["create", "start", "die", "pause", "unpause", "rename", "destroy"],
}
_EVERYWHERE = ("", "0.0.0.0", "::", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Container:
    """`links` are addresses of its published TCP ports."""

    name: str
    state: str
    links: tuple[str, ...] = ()


def of_api(rows: Any) -> list[Container]:
    """Of what Docker's list of containers says, in its order: the youngest first. Raises `ValueError` for what is no such list."""
    try:
        return [Container(str(row["Names"][0]).removeprefix("/"), str(row["State"]), _links(row)) for row in rows]
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ValueError("this is no list of containers") from None


def _links(row: dict[str, Any]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for port in row.get("Ports") or ():
        if port.get("Type") == "tcp" and port.get("PublicPort"):
            address = port.get("IP") or ""
            host = "localhost" if address in _EVERYWHERE else f"[{address}]" if ":" in address else address
            scheme = "https" if port.get("PrivatePort") == 443 else "http"
            found[f"{scheme}://{host}:{port['PublicPort']}"] = None
    return tuple(found)


class Following:
    """Tells of a machine's containers until its end, in a thread of its own. A machine that does not run is left alone."""

    def __init__(self, paths: MachinePaths, told: Callable[[Sequence[Container]], None]) -> None:
        self._paths = paths
        self._told = told
        self._lock = threading.Lock()
        self._ended = False
        self._sock: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="containers", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Nothing is told any more, and the connection ends at once."""
        with self._lock:
            self._ended = True
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)

    def wait(self) -> None:
        """After its end: until it has no connection, nor makes one any more, which would wake a machine."""
        self._thread.join(2 * ANSWER_S)

    def _run(self) -> None:
        try:
            if unattended.state(self._paths) == "running":
                self._follow()
        except (OSError, ValueError, CoveError) as error:
            if not self._ended:
                log.warning("the containers cannot be told: %s", error)
        except Exception:
            log.exception("the containers cannot be told")

    def _follow(self) -> None:
        """Raises `OSError`, `ValueError`."""
        with connect(self._paths.docker_socket, ANSWER_S) as sock:
            with self._lock:
                if self._ended:
                    return
                self._sock = sock
            try:
                self._listen(sock)
            finally:
                with self._lock:
                    self._sock = None

    def _listen(self, sock: socket.socket) -> None:
        deadline = time.monotonic() + LOOKED_S
        sock.settimeout(ANSWER_S)
        target = f"/events?filters={quote(json.dumps(_FILTERS))}"
        # HTTP/1.0: what comes is events alone, until the connection ends.
        sock.sendall(f"GET {target} HTTP/1.0\r\nHost: docker\r\nUser-Agent: cove\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := sock.recv(_CHUNK)) or len(head) > _MAX_HEAD:
                raise ValueError("the engine told of no events")
            head += data
        if head.split(b" ", 2)[1:2] != [b"200"]:
            raise ValueError(f"the engine tells of no events: {head[:60]!r}")
        self._tell()
        with contextlib.suppress(TimeoutError):
            while (left := deadline - time.monotonic()) > 0:
                sock.settimeout(left)
                if not (data := sock.recv(_CHUNK)):
                    return
                if b"\n" in data:
                    self._tell()

    def _tell(self) -> None:
        rows = engine.get(self._paths.docker_socket, "/containers/json?all=1", time.monotonic() + ANSWER_S)
        found = of_api(rows)
        if not self._ended:
            self._told(found)
