"""Tells when this computer's network has changed: devices, addresses, routes (rtnetlink(7)). Linux; elsewhere nothing is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable

_LINK, _IPV4, _IPV4_ROUTE, _IPV6, _IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE."""
QUIET_S, AT_LAST_S = 1.0, 5.0
"""A Wi-Fi that comes back tells of a device, of addresses, and of the route that makes them of use last: it is told once, when nothing
more has come for so long, or when so much time has gone by."""


class NetworkChanges:
    """Calls `changed` in the event loop, once for changes that come together."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._socket: socket.socket | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.TimerHandle | None = None
        self._began = 0.0
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
                made.bind((0, _LINK | _IPV4 | _IPV4_ROUTE | _IPV6 | _IPV6_ROUTE))
                self._loop.add_reader(made, self._told)
                self._socket = made

    def _told(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError, OSError):  # ENOBUFS: more happened than there was room for
            while self._socket.recv(1 << 16):
                pass
        self.note()

    def note(self) -> None:
        """Something has changed, and more may be about to."""
        now = self._loop.time()
        if self._waiting is None:
            self._began = now
        else:
            self._waiting.cancel()
        self._waiting = self._loop.call_at(min(now + QUIET_S, self._began + AT_LAST_S), self._settled)

    def _settled(self) -> None:
        self._waiting = None
        self._changed()

    def close(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
