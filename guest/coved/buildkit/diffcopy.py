"""FileSync/DiffCopy and FileSend/DiffCopy: trees of files between a client and a directory here."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from coved.build.files.places import OPEN_DIRECTORY
from coved.buildkit.arriving import Arriving, BadTree
from coved.buildkit.departing import CHUNK, Departing
from coved.buildkit.messages import (
    PACKET_DATA,
    PACKET_ERR,
    PACKET_FIN,
    PACKET_REQ,
    PACKET_STAT,
    Packet,
)
from coved.buildkit.patience import answer
from coved.errors import EngineError
from coved.grpc.call import Call

AT_ONCE = 64
"""Files that are on their way at once; the client sends four."""
_STAT_SIZE = 32
"""About what an entry takes on the wire, beside its path."""


class _Transfer:
    """What comes, in a thread of its own; one batch of packets after another."""

    def __init__(self, arriving: Arriving) -> None:
        self._arriving = arriving
        self._listed = False
        self.wanted: deque[int] = deque()
        self.asked = 0
        self.finished = False
        self.over = False
        """The client has nothing to say any more."""
        self.received = 0

    def take(self, packets: Sequence[Packet]) -> None:
        """Raises EngineError, OSError."""
        for packet in packets:
            if packet.type == PACKET_STAT:
                self._stat(packet)
            elif packet.type == PACKET_DATA:
                self.received += len(packet.data)
                self._arriving.data(packet.id, packet.data)
                if not packet.data:
                    self.asked -= 1
            elif packet.type == PACKET_ERR:
                raise EngineError(f"error from sender: {packet.data.decode('utf-8', 'replace')}")
            elif packet.type == PACKET_FIN:
                if not self.finished:
                    raise BadTree("the client ended the transfer of its files early")
                self.over = True
            else:
                raise BadTree(f"unexpected packet {packet.type}")
        if self._listed and not self._arriving.waiting and not self.finished:
            self._arriving.finish()
            self.finished = True

    def requests(self) -> list[Packet]:
        """For what is to be asked for now."""
        count = min(len(self.wanted), AT_ONCE - self.asked)
        self.asked += count
        return [Packet(PACKET_REQ, id=self.wanted.popleft()) for _ in range(count)]

    def _stat(self, packet: Packet) -> None:
        if self._listed:
            raise BadTree("the client's list of files goes on after its end")
        if packet.stat is None:
            self._listed = True
            return
        self.received += len(packet.stat.path) + _STAT_SIZE
        number = self._arriving.entry(packet.stat)
        if number is not None:
            self.wanted.append(number)


async def receive(call: Call[Packet, Packet], path: Path, spare: Path, meter: Callable[[int], None]) -> None:
    """Makes the tree of ``path`` the client's.

    Args:
        spare: an empty directory on the same file system.
        meter: told of the bytes that have come so far.

    Raises GrpcError, EngineError, OSError.
    """
    loop = asyncio.get_running_loop()
    root = os.open(path, OPEN_DIRECTORY)
    beside = os.open(spare, OPEN_DIRECTORY)
    arriving = Arriving(root, beside)
    transfer = _Transfer(arriving)
    # One thread: when it has closed, which is waited for, nothing of this transfer touches the files any more.
    thread = ThreadPoolExecutor(1, "diffcopy")
    try:
        while not transfer.over:
            packets = await answer(call.several())
            if not packets:
                raise BadTree("the client ended the transfer of its files early")
            was_finished = transfer.finished
            await loop.run_in_executor(thread, transfer.take, packets)
            meter(transfer.received)
            if requests := transfer.requests():
                await call.send_all(requests)
            if transfer.finished and not was_finished:
                # Its half of the call ends here: a Go server that is done resets what is open still.
                await call.send(Packet(PACKET_FIN), end=True)
        while await answer(call.several()):
            pass
    finally:
        closing = loop.run_in_executor(thread, _close, arriving, root, beside)
        thread.shutdown(wait=False)
        await asyncio.shield(closing)


async def send(call: Call[Packet, Packet], departing: Departing) -> None:
    """Gives the client a tree. Raises GrpcError, EngineError, OSError."""
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, "diffcopy")
    asked: asyncio.Queue[int | None] = asyncio.Queue()
    told = 0

    async def listen() -> None:
        # For how long, ``tell`` decides, which waits for the client's requests, or for it to take what is sent.
        requests = 0
        async for packet in call:
            if packet.type == PACKET_REQ:
                requests += 1
                if requests > told:
                    raise EngineError(f"invalid file id {packet.id}")
                asked.put_nowait(packet.id)
            elif packet.type == PACKET_FIN:
                asked.put_nowait(None)
                return
            elif packet.type == PACKET_ERR:
                raise EngineError(f"error from receiver: {packet.data.decode('utf-8', 'replace')}")
        raise EngineError("the client ended the transfer of files early")

    async def tell() -> None:
        nonlocal told
        entries = departing.entries()
        while some := await loop.run_in_executor(thread, lambda: [*islice(entries, AT_ONCE)]):
            told += len(some)
            await call.send_all(Packet(PACKET_STAT, stat=entry) for entry in some)
        await call.send(Packet(PACKET_STAT))
        while (number := await answer(asked.get())) is not None:
            try:
                fd = await loop.run_in_executor(thread, departing.open, number)
            except KeyError:
                raise EngineError(f"invalid file id {number}") from None
            try:
                while data := await loop.run_in_executor(thread, os.read, fd, CHUNK):
                    await call.send(Packet(PACKET_DATA, id=number, data=data))
            finally:
                thread.submit(os.close, fd)
            await call.send(Packet(PACKET_DATA, id=number))
        await call.send(Packet(PACKET_FIN), end=True)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            group.create_task(tell())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        thread.shutdown(wait=False)
    while await answer(call.several()):
        pass


def _close(arriving: Arriving, root: int, beside: int) -> None:
    arriving.close()
    os.close(root)
    os.close(beside)
