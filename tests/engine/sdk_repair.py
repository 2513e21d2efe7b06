"""A mend for the Docker SDK: what a process says at once must not be lost.

It reads the head of an answer through a buffer, and what comes after that from the socket itself. Where both have arrived
together, as they do when its computer is busy, the first of the output stays in the buffer: `exec_run` gives b"", with any engine.
"""

from __future__ import annotations

import http.client
import io
import socket
from typing import Any

from docker.transport import unixconn


class _Answer(http.client.HTTPResponse):
    """Takes no more than the head from the socket, and only then has a buffer."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self.fp = sock.makefile("rb", buffering=0)  # type: ignore[assignment]

    def begin(self) -> None:
        super().begin()
        if self.fp is not None:
            self.fp = io.BufferedReader(self.fp)  # type: ignore[arg-type]


def repair() -> None:
    unixconn.UnixHTTPConnection.response_class = _Answer
