"""The host's end of a virtio-serial port: a raw pseudo terminal, whose other end has a path as the port has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios
import tty
from pathlib import Path
from typing import Any

from coved.link.protocol import FrameDecoder, encode


class HostEnd:
    """`path` is what the guest opens. The loop must run."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        tty.setraw(self._master)
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        self.path = Path(os.ttyname(slave))
        # Kept open, as a port is there whether or not somebody has it open.
        self._slave = slave
        self._decoder = FrameDecoder()
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.listen()

    def listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def pause(self) -> None:
        """Read nothing more until `listen`."""
        asyncio.get_running_loop().remove_reader(self._master)

    def close(self) -> None:
        if self._master >= 0:
            self.pause()
            os.close(self._master)
            os.close(self._slave)
            self._master = -1

    def drop_unread(self) -> None:
        """What the kernel does with a port when its last user closes it."""
        termios.tcflush(self._slave, termios.TCIFLUSH)

    def send(self, message: Any) -> None:
        self.send_bytes(encode(message if isinstance(message, dict) else message.to_json()))

    def send_bytes(self, data: bytes) -> None:
        assert os.write(self._master, data) == len(data)

    async def send_all(self, data: bytes) -> None:
        """As much at once as the terminal takes, which has less room when its computer is busy."""
        while data:
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self._master, data) :]
            await asyncio.sleep(0)

    async def receive(self, kind: str, timeout_s: float = 30) -> dict[str, Any]:
        """The next message of that type; others before it are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self._messages.get()
                if message["type"] == kind:
                    return message

    def nothing_waits(self) -> bool:
        return self._messages.empty()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            for message in self._decoder.feed(os.read(self._master, 1 << 16)):
                self._messages.put_nowait(message)
