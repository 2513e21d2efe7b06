"""Clients that have attached to a container which is not running, and wait for its start.

Nobody reads from them meanwhile, so that their leaving is no end of input for anyone: it is told by epoll_ctl(2), which
reports EPOLLHUP whatever it is asked for. For a unix socket that is when the peer has closed both directions, and not yet
when it has only finished writing.
"""

from __future__ import annotations

import asyncio
import os
import select

from coved.errors import Conflict
from coved.runtime.spec import Attachment

LIMIT = 100
"""Of one container: each holds a descriptor of the engine, and a container may never be started."""


class Pending:
    """Owns the descriptors of those that wait."""

    def __init__(self) -> None:
        self._waiting: dict[int, Attachment] = {}
        self._epoll: select.epoll | None = None  # only while somebody waits

    def __len__(self) -> int:
        return len(self._waiting)

    def must_have_room(self, container_id: str) -> None:
        """Raises Conflict."""
        if len(self._waiting) >= LIMIT:
            raise Conflict(
                f"container {container_id} is not running, and {LIMIT} clients that have attached to it wait for its start"
                " already: start it, or let some of them go"
            )

    def add(self, container_id: str, attachment: Attachment) -> None:
        """Keeps it until it is taken or its client leaves. Takes over ``attachment.fd``. Raises Conflict when there is no room."""
        try:
            self.must_have_room(container_id)
            epoll = self._epoll or self._watched()
            epoll.register(attachment.fd, 0)
        except BaseException:
            os.close(attachment.fd)
            raise
        self._waiting[attachment.fd] = attachment

    def _watched(self) -> select.epoll:
        epoll = select.epoll()
        try:
            asyncio.get_running_loop().add_reader(epoll.fileno(), self._report)
        except BaseException:
            epoll.close()
            raise
        self._epoll = epoll
        return epoll

    def take(self) -> list[Attachment]:
        """Those that wait, in the order of their coming; their descriptors are the caller's from now on."""
        taken = [*self._waiting.values()]
        for attachment in taken:
            self._forget(attachment.fd)
        return taken

    def drop(self) -> None:
        """Those who wait hear that there is nothing to wait for."""
        for attachment in self.take():
            os.close(attachment.fd)

    def _forget(self, fd: int) -> None:
        assert self._epoll is not None
        del self._waiting[fd]
        self._epoll.unregister(fd)
        if not self._waiting:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _report(self) -> None:
        assert self._epoll is not None
        for fd, _ in self._epoll.poll(0):
            self._forget(fd)
            os.close(fd)
