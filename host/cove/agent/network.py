"""Tells when this computer's network has changed: devices, addresses (rtnetlink(7)). Linux; elsewhere nothing is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable

_LINK, _IPV4, _IPV6 = 0x1, 0x10, 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR."""


class NetworkChanges:
    """Calls `changed` in the event loop."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._socket: socket.socket | None = None
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
                made.bind((0, _LINK | _IPV4 | _IPV6))
                asyncio.get_running_loop().add_reader(made, self._told)
                self._socket = made

    def _told(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError, OSError):  # ENOBUFS: more happened than there was room for
            while self._socket.recv(1 << 16):
                pass
        self._changed()

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
