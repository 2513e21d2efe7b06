"""A virtio-serial port on the event loop.

While the host's end is closed such a port reports a hang-up without pause, so a level-triggered loop would spin. It
is registered edge-triggered in an epoll instance of its own, and that instance's descriptor is what the event loop
watches: it wakes when data arrives, when there is room again, and when the host opens or closes its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import Callable
from pathlib import Path

from coved.link.unsent import Unsent

_READ_SIZE = 1 << 16


class EdgePort:
    """Reads and writes one non-blocking descriptor.

    Args:
        on_data: told of every piece of data, in order.
        on_disconnect: told when the host has closed its end; what was unsent is dropped before.
    """

    def __init__(self, path: Path, on_data: Callable[[bytes], None], on_disconnect: Callable[[], None]) -> None:
        self._path = path
        self._on_data = on_data
        self._on_disconnect = on_disconnect
        self._fd = -1
        self._epoll: select.epoll | None = None
        self._unsent = Unsent()
        self._heard = False

    def open(self) -> None:
        """Opens the port and starts to listen. Raises OSError when it cannot be opened."""
        self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        self._epoll = select.epoll()
        self._epoll.register(self._fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._wake)

    def close(self) -> None:
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
            os.close(self._fd)
        self._unsent.clear()
        self._heard = False

    def reopen(self) -> None:
        """Drops whatever lies unread in the port, which the kernel does when the last user closes it."""
        if self._epoll is not None:
            self.close()
            self.open()

    def write(self, data: bytes) -> None:
        """Sends now what the port takes, and the rest when it has room.

        Raises:
            ConnectionError: the port is closed, or the host has not read for so long that too much waits.
        """
        if self._epoll is None:
            raise ConnectionError(f"{self._path} is closed")
        self._unsent.add(data)
        self._send()

    def _wake(self) -> None:
        if self._epoll is None:
            return
        # An edge is reported once: whatever it stands for has to be used up now.
        self._epoll.poll(0)
        self._send()
        self._receive()

    def _receive(self) -> None:
        epoll = self._epoll
        while epoll is not None and self._epoll is epoll:  # until it is closed, or opened anew
            try:
                data = os.read(self._fd, _READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:  # virtio_console answers so while the host's end is closed
                self._disconnected()
                return
            self._heard = True
            self._on_data(data)

    def _send(self) -> None:
        try:
            self._unsent.send(lambda data: os.write(self._fd, data))
        except BlockingIOError:
            return
        except OSError:
            self._disconnected()

    def _disconnected(self) -> None:
        self._unsent.clear()
        if self._heard:
            self._heard = False
            self._on_disconnect()


def read_boot_id(path: Path) -> str:
    """``boot_id`` of a seed; "" when it has none that can be read."""
    import json

    with contextlib.suppress(OSError, ValueError):
        seed = json.loads(path.read_bytes())
        if isinstance(seed, dict) and isinstance(seed.get("boot_id"), str):
            return str(seed["boot_id"])
    return ""
