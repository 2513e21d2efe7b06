"""What the guest changes, told to whoever watches the folder for changes of the host: one JSON line before each.

``{"op": "create|delete|move|attrib|write|written", "path": "/absolute", "to": ""}``, and ``missed`` after a file was closed whose changes
on the host the guest could not be told. The first is ``{"op": "listening"}``, and one is
``{"op": "lost"}`` where lines had to be left out because nobody read them.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from pathlib import Path

from cove.share.ninep.host import host
from cove.share.ninep.tree import Node

_MAX_PENDING = 1 << 18


class Notices:
    """`root`: the folder's path. Telling costs nothing while nobody listens, and never waits."""

    def __init__(self, root: Path) -> None:
        self._separator = os.fsencode(os.sep)
        self._root = os.fsencode(root).rstrip(self._separator)
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._lost = False
        self.listeners = 0
        """How many there have been; one that has lost something begins anew."""

    def listen(self, connection: socket.socket) -> None:
        """Tell this connection from now on, and no other. Raises `OSError`."""
        with self._lock:
            if self._listener is connection:
                return
            self._listener = connection
            self.listeners += 1
            self._pending.clear()
            self._lost = False
            connection.sendall(b'{"op": "listening"}\n')  # the first bytes of a connection always have room

    def leave(self, connection: socket.socket) -> None:
        with self._lock:
            if self._listener is connection:
                self._listener = None

    def tell(self, op: str, node: Node, name: bytes = b"", to: Node | None = None, new: bytes = b"") -> None:
        """`name`: of an entry of `node`, when it is not `node` itself; `to` and `new`: where it moves."""
        if self._listener is None:
            return
        try:
            path = self._path(node, name)
            target = self._path(to, new) if to is not None else ""
        except OSError:
            return  # of a file that has no name any more, nobody is told
        line = json.dumps({"op": op, "path": path, "to": target}).encode("ascii") + b"\n"
        with self._lock:
            if self._listener is None:
                return
            if self._pending:  # whoever sends what is pending sends this too
                if len(self._pending) > _MAX_PENDING:
                    self._lost = True
                else:
                    self._pending += line
                return
            try:
                sent = host.send_some(self._listener, line)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._listener = None
                return
            if sent < len(line):
                self._pending += line[sent:]
                threading.Thread(target=self._drain, args=(self._listener,), daemon=True).start()

    def _path(self, node: Node, name: bytes) -> str:
        names = node.path()
        if name:
            names.append(name)
        return os.fsdecode(self._root + b"".join(self._separator + each for each in names))

    def _drain(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                with self._lock:
                    if self._listener is not connection or not self._pending:
                        return
                    some = bytes(self._pending[:65536])
                connection.sendall(some)
                with self._lock:
                    if self._listener is not connection:
                        return
                    del self._pending[: len(some)]
                    if self._lost and not self._pending:
                        self._pending += b'{"op": "lost"}\n'
                        self._lost = False
                        self.listeners += 1
