"""The guest's end of the streams where the host connects, instead of there being a port: a connection stands for the port of `Streams`."""

from __future__ import annotations

import os
import select
import socket

from coved.streams.service import Streams


class TakenStreams(Streams):
    """Serves the latest connection that was let in, as a host that died may seem to be there still. While there is none, nothing is
    served."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__("")
        listener.setblocking(False)
        self._listener = listener

    def _open_port(self) -> None:
        self._changes.register(self._listener, select.EPOLLIN)

    def _begin_anew(self) -> None:
        self._hung_up()

    def _hung_up(self) -> None:
        self._forget()
        if self._port >= 0:
            os.close(self._port)
            self._port = -1

    def _let_in(self, connection: socket.socket) -> None:
        self._hung_up()
        self._port = connection.detach()
        self._changes.register(self._port, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
