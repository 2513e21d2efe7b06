"""The guest's end of the streams where the host connects, instead of there being a port: a connection stands for the port of `Streams`."""

from __future__ import annotations

import contextlib
import os
import select
import socket

from coved.streams.frames import RESET, frame
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
        self._turn_out()
        self._port = connection.detach()
        self._changes.register(self._port, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    def _turn_out(self) -> None:
        """One that is there yet is told why it is left: it would come again at once, and take the place back, and nobody would know."""
        if self._port >= 0:
            rest = self._unsent[0] if self._cut else b""
            with contextlib.suppress(OSError):  # it is gone, or reads nothing
                os.write(self._port, rest + frame(RESET, 0))
        self._hung_up()
