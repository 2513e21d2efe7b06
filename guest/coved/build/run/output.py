"""What a step's command prints, as its shim sends it: frames of the Engine API's attach ("Stream format") on a socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

Take = Callable[[int, bytes], asyncio.Future[None] | None]
"""Told of a stream (1 standard output, 2 standard error) and what came on it, in order. It gives what to wait for before more
of it is taken in, if anything."""

_AT_ONCE = 256 * 1024
_header = struct.Struct(">BxxxI")


class Output:
    """A context manager. ``far_end`` is for the shim, which has a duplicate of it once it has been handed over.

    The shim makes the command wait as long as too much waits here, so there is never more than a read's worth in memory.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._near.setblocking(False)
        self._rest = b""
        self._ended: asyncio.Future[None] = self._loop.create_future()

    @property
    def far_end(self) -> int:
        return self._far.fileno()

    def __enter__(self) -> Output:
        self._loop.add_reader(self._near, self._on_readable)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.remove_reader(self._near)
        self._near.close()
        self.handed_over()

    def handed_over(self) -> None:
        """The far end is the shim's alone."""
        self._far.close()

    async def end(self) -> None:
        """Returns when all has come. Raises what ``take`` has raised."""
        await self._ended

    def _on_readable(self) -> None:
        try:
            data = self._near.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            full = self._pass_on(data)
        except Exception as error:
            self._finish(error)
            return
        if not data:
            self._finish()
        elif full is not None:
            self._loop.remove_reader(self._near)
            full.add_done_callback(self._go_on)

    def _go_on(self, waited: asyncio.Future[None]) -> None:
        if self._near.fileno() >= 0:
            self._loop.add_reader(self._near, self._on_readable)

    def _pass_on(self, data: bytes) -> asyncio.Future[None] | None:
        full = None
        data, place = self._rest + data if self._rest else data, 0
        while len(data) - place >= _header.size:
            stream, length = _header.unpack_from(data, place)
            start = place + _header.size
            if len(data) - start < length:
                break
            place = start + length
            full = self._take(stream, data[start:place])
        self._rest = data[place:]
        return full

    def _finish(self, error: Exception | None = None) -> None:
        self._loop.remove_reader(self._near)
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)
