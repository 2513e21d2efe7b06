"""A client's SSH agent, behind a socket here (moby.sshforward.v1)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from coved.buildkit.messages import FORWARD_AGENT, BytesMessage
from coved.grpc.call import Call
from coved.grpc.client import Channel
from coved.grpc.status import GrpcError

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 64
_CHUNK = 32 * 1024


@asynccontextmanager
async def forward(channel: Channel, id: str, folder: Path) -> AsyncIterator[Path]:
    """A socket whose connections all lead to the client's agent ``id``. Raises OSError."""
    with _private(folder) as private:
        path = Path(private, "agent.sock")
        listener = _listen(path)
        tasks: set[asyncio.Task[None]] = set()
        accepting = asyncio.get_running_loop().create_task(_accept(listener, channel, id, tasks))
        try:
            yield path
        finally:
            accepting.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(accepting, *tasks, return_exceptions=True)
            listener.close()


def _private(folder: Path) -> tempfile.TemporaryDirectory[str]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return tempfile.TemporaryDirectory(prefix="ssh-", dir=folder)


def _listen(path: Path) -> socket.socket:
    """By the folder's descriptor: a socket's name may have 107 bytes only."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        listener.listen(CONNECTIONS_MAX)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener


async def _accept(listener: socket.socket, channel: Channel, id: str, tasks: set[asyncio.Task[None]]) -> None:
    loop = asyncio.get_running_loop()
    slots = asyncio.Semaphore(CONNECTIONS_MAX)
    while True:
        await slots.acquire()
        connection, _ = await loop.sock_accept(listener)
        task = loop.create_task(_serve(connection, channel, id))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _: slots.release())


async def _serve(connection: socket.socket, channel: Channel, id: str) -> None:
    with connection:
        try:
            async with channel.open(FORWARD_AGENT, metadata=[("buildkit.ssh.id", id)]) as call:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_inwards(connection, call))
                    group.create_task(_outwards(connection, call))
        except* (GrpcError, OSError) as errors:
            log.debug("the SSH agent of a build's client: %s", errors.exceptions[0])


async def _inwards(connection: socket.socket, call: Call[BytesMessage, BytesMessage]) -> None:
    loop = asyncio.get_running_loop()
    async for message in call:
        await loop.sock_sendall(connection, message.data)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


async def _outwards(connection: socket.socket, call: Call[BytesMessage, BytesMessage]) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(connection, _CHUNK):
        await call.send(BytesMessage(data))
    await call.end()
