"""A listener that no event loop can wait for, as Windows' are."""

from __future__ import annotations

import asyncio
import logging
import queue
import socket

import pytest
from cove.local.serving import serve


class Pipes:
    """Gives the clients that it is told, and raises the errors."""

    def __init__(self) -> None:
        self.comes: queue.Queue[socket.socket | OSError] = queue.Queue()
        self._closed = False

    def accept(self) -> tuple[socket.socket, str]:
        came = self.comes.get()
        if isinstance(came, OSError):
            raise came
        return came, ""

    def shutdown(self, how: int, /) -> None:
        self.close()

    def close(self) -> None:
        self._closed = True
        self.comes.put(OSError("it is closed"))

    def fileno(self) -> int:
        return -1 if self._closed else 1


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()


def _ask(pipes: Pipes) -> bytes:
    client, served = socket.socketpair()
    pipes.comes.put(served)
    with client, client.makefile("rb") as lines:
        client.settimeout(60)
        client.sendall(b"question\n")
        return lines.readline()


def test_an_error_that_passes_ends_no_service(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    pipes = Pipes()

    async def run() -> list[bytes]:
        server = await serve(pipes, _echo, 1 << 16)
        try:
            for _ in range(3):
                pipes.comes.put(OSError("no buffers"))
            return [await asyncio.to_thread(_ask, pipes) for _ in range(2)]
        finally:
            server.close()

    assert asyncio.run(run()) == [b"question\n"] * 2
    assert [record.getMessage() for record in caplog.records] == ["clients have to wait: no buffers"]
