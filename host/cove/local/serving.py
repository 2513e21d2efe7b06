"""Serving a listener's clients in an event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable

from cove.local.sockets import Listener

log = logging.getLogger(__name__)

_SHORTAGE_S = 0.1
Callback = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def serve(listener: Listener, callback: Callback, limit: int) -> Server | asyncio.Server:
    """Have the callback serve who connects. `close` ends that, and the listener."""
    if sys.platform != "win32" and isinstance(listener, socket.socket):
        return await asyncio.start_unix_server(callback, sock=listener, limit=limit)
    return Server(listener, callback, limit)


class Server:
    """Serves who connects to a listener that no event loop can wait for. A thread waits."""

    def __init__(self, listener: Listener, callback: Callback, limit: int) -> None:
        self._listener = listener
        self._callback = callback
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._serving: set[asyncio.Task[None]] = set()
        threading.Thread(target=self._accept, name="accept", daemon=True).start()

    def close(self) -> None:
        """Nobody is served any more who has not been accepted."""
        self._listener.close()

    def _accept(self) -> None:
        told = False
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                if self._listener.fileno() < 0 or self._loop.is_closed():
                    return
                if not told:
                    log.warning("clients have to wait: %s", error)
                    told = True
                time.sleep(_SHORTAGE_S)  # nothing tells when there is room again
                continue
            told = False
            try:
                self._loop.call_soon_threadsafe(self._begin, client)
            except RuntimeError:  # the loop has ended
                client.close()
                return

    def _begin(self, client: socket.socket) -> None:
        task = self._loop.create_task(self._serve(client))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, client: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=client, limit=self._limit)
        await self._callback(reader, writer)
