"""Serves those who connect to the API's socket."""

import asyncio
import errno
import logging
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from coved import versions
from coved.api.connection import Connection
from coved.api.router import Router

if TYPE_CHECKING:
    from coved.engine import Engine

log = logging.getLogger(__name__)

_MAX_CONNECTIONS = 2048
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Server:
    """Accepts clients on ``listener``, which is nonblocking, and stays open."""

    def __init__(self, engine: "Engine", router: Router, listener: socket.socket) -> None:
        self._engine = engine
        self._router = router
        self._listener = listener
        self._acceptor: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._hangups = _EpollHangups()
        self._headers = [
            ("Api-Version", versions.text(versions.NEWEST)),
            ("Docker-Experimental", "false"),
            ("Ostype", "linux"),
            ("Server", f"Cove/{engine.config.version} (linux)"),
        ]

    def start(self) -> None:
        """To be called on the event loop."""
        self._hangups.start()
        self._acceptor = asyncio.get_running_loop().create_task(self._accept(self._listener))

    async def stop(self) -> None:
        """Takes no more clients and ends the connections there are."""
        if self._acceptor is not None:
            self._acceptor.cancel()
        tasks = [task for task in (self._acceptor, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._hangups.stop()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._slots.release()
                if error.errno not in _OUT_OF_RESOURCES:
                    continue
                # The client stays in the backlog; descriptors come back when another leaves.
                log.warning("cannot accept a client: %s", error.strerror)
                await asyncio.sleep(0.1)
                continue
            except asyncio.CancelledError:
                self._slots.release()
                raise
            task = loop.create_task(self._serve(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        connection = Connection(self._engine, self._router, sock, self._headers, self._hangups)
        try:
            await connection.run()
        finally:
            self._slots.release()


class _EpollHangups:
    """Tells connections that their client has gone, without reading from them.

    A socket in an epoll set with an empty event mask still reports EPOLLHUP (epoll_ctl(2)): for a unix socket that is
    when the peer has closed both directions, and not yet when it has only finished writing.
    """

    def __init__(self) -> None:
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._report)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Calls back once when the peer of ``fd`` hangs up."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, 0)

    def forget(self, fd: int) -> None:
        """To be called before ``fd`` is closed or given away."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _report(self) -> None:
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks[fd]
            self.forget(fd)
            callback()
