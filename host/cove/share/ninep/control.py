"""What the agent says to the server and hears from it: JSON lines on a socket that the server listens on.

The agent says ``{"token": "<hex>"}``, by which the guest's helper may pretend (`pretender`), and hears on the same connection
what the guest changes (`notices`), from the word ``listening`` on. An agent that is started later connects anew.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator

from cove.local.sockets import Listener
from cove.share.ninep.notices import Notices
from cove.share.ninep.pretender import Pretences

_MAX_LINE = 4096


class Control:
    def __init__(self, listener: Listener, notices: Notices, pretences: Pretences) -> None:
        self._listener = listener
        self._notices = notices
        self._pretences = pretences

    def start(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the process ends
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._listen, args=(connection,), daemon=True).start()

    def _listen(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            try:
                for line in _lines(connection):
                    token = json.loads(line)["token"]
                    if not isinstance(token, str) or not token:
                        return
                    self._pretences.token = token
                    self._notices.listen(connection)
            finally:
                self._notices.leave(connection)


def _lines(connection: socket.socket) -> Iterator[bytes]:
    """Lines up to the end, or to one that is too long. (No file object: its lock, held at the process's end, would abort it.)"""
    pending = b""
    while len(pending) < _MAX_LINE and (some := connection.recv(_MAX_LINE)):
        *lines, pending = (pending + some).split(b"\n")
        yield from lines
