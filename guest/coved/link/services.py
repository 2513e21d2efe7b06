"""Services of the host's computer as sockets in the machine: what connects to one is passed on through the host's connection.

A container that has such a socket mounted keeps it for as long as it lives, while connections from the host come and go: so the
socket is the machine's own, and only where it leads changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

MOST = 64
"""Connections at a time."""
_CHUNK = 32 << 10


class HostService:
    """Passes on what connects to ``listener``, which the caller closes.

    Args:
        way: the socket at which the host's connection takes streams for the service, when there is one.
    """

    def __init__(self, listener: socket.socket, way: Path) -> None:
        self._listener = listener
        self._way = way
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._listener.setblocking(False)
        self._begin(self._accept())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                log.warning("%s: %s", self._way.stem, error.strerror)
                await asyncio.sleep(0.1)  # nothing tells when there are descriptors again
                continue
            if len(self._tasks) > MOST:
                client.close()
                continue
            self._begin(self._passed_on(client))

    async def _passed_on(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with client, socket.socket(socket.AF_UNIX) as host:
            for one in (client, host):
                one.setblocking(False)
            try:
                await loop.sock_connect(host, str(self._way))
            except OSError:
                return  # no connection from the host, or it does not have the service
            with contextlib.suppress(OSError, ExceptionGroup):
                async with asyncio.TaskGroup() as both:
                    both.create_task(_copy(client, host))
                    both.create_task(_copy(host, client))


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK):
        await loop.sock_sendall(sink, data)
    sink.shutdown(socket.SHUT_WR)
