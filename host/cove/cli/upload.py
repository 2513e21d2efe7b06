"""The body of a request that is sent while its answer is read already.

An engine tells of its progress as it takes an archive in. Whoever reads nothing of that before all is sent sees it too
late, and if it is more than a socket holds, the engine stops taking and both wait for ever.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from contextlib import suppress


class Uploader(threading.Thread):
    """Sends `upload` over `sock` as HTTP/1.1 chunks (RFC 9112, section 7.1) and then `end`. What `upload` raises is kept
    as `failure` and cuts the connection, so that whoever waits for an answer comes to know.
    """

    def __init__(self, sock: socket.socket, upload: Iterable[bytes], end: bytes) -> None:
        super().__init__(name="upload", daemon=True)
        self.failure: Exception | None = None
        self._sock = sock
        self._upload = upload
        self._end = end

    def run(self) -> None:
        chunks = iter(self._upload)
        while True:
            try:
                chunk = next(chunks, None)
            except Exception as error:
                self.failure = error
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
                return
            try:
                if chunk is None:
                    self._sock.sendall(self._end)
                    return
                if chunk:
                    self._sock.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            except OSError:
                return  # the engine has refused before the end, and its answer says why
