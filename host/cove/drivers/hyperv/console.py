"""The guest's console, which Hyper-V gives away on a named pipe of its own: what it says, and that the VM has ended.

The pipe is the VM's process' own and breaks with it, so nobody has to ask whether the VM runs still.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cove.machine.files import MAX_CONSOLE, cut

log = logging.getLogger(__name__)

Opener = Callable[[Callable[[], asyncio.Protocol], str], Awaitable[Any]]
"""Connects a protocol to an address, and gives back its transport first. Raises `OSError`."""
TRIES, AGAIN_S = 20, 0.25
"""A VM that has just been started may not have its pipe yet, and nothing tells when it has."""


def pipe(machine: str) -> str:
    return rf"\\.\pipe\cove-{machine}-console"


async def open_pipe(factory: Callable[[], asyncio.Protocol], address: str) -> Any:
    """Needs Windows' event loop. Raises `OSError`, also when the pipe is neither the system's nor a VM's: anybody may have taken its
    name before the VM could."""
    if sys.platform == "win32":
        from asyncio.windows_utils import PipeHandle

        from cove.local import pipes

        handle = PipeHandle(pipes.open_handle(address, 0, or_of=pipes.SERVICES | {pipes.VIRTUAL_MACHINES}))
        try:
            return await asyncio.get_running_loop().connect_read_pipe(factory, handle)
        except BaseException:
            handle.close()
            raise
    raise OSError("there are no named pipes here")


class Console(asyncio.Protocol):
    """One connection to it, whose bytes go to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._transport: Any = None
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        # A few lines in a boot, on a disk that may be full: the console is no reason to fail.
        with contextlib.suppress(OSError):
            cut(self._path, MAX_CONSOLE)
            with self._path.open("ab") as file:
                file.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def connect(opener: Opener, address: str, path: Path) -> Console | None:
    """None when it cannot be had; the log says why."""
    console = Console(path)
    problem: OSError | None = None
    for _ in range(TRIES):
        try:
            await opener(lambda: console, address)
            return console
        except FileNotFoundError as error:
            problem = error
            await asyncio.sleep(AGAIN_S)
        except OSError as error:
            problem = error
            break
    log.warning("the console of the VM cannot be read: %s: %s", address, problem)
    return None
