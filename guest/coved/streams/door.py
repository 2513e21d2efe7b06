"""``python3 -m coved.streams.door DESCRIPTOR``: streams for whoever may open a unix socket, which this process has as that descriptor.

Whoever may is the host: the socket's owner, to whom SSH leads (`coved.remote`).
"""

from __future__ import annotations

import socket
import sys

from coved.streams.service import allow_descriptors
from coved.streams.taking import TakenStreams


class DoorStreams(TakenStreams):
    def _other(self, descriptor: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it has gone again
            return
        connection.setblocking(False)
        self._let_in(connection)


if __name__ == "__main__":
    allow_descriptors()
    DoorStreams(socket.socket(fileno=int(sys.argv[1]))).run()
