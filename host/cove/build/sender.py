"""Sends a folder of the user's to the engine, as it asks for it (moby.filesync.v1.FileSync/DiffCopy).

The engine is told of each entry, in order, and asks for the contents of files by their numbers while the list goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from itertools import islice
from urllib.parse import unquote_plus

from coved.buildkit.messages import (
    PACKET_DATA,
    PACKET_ERR,
    PACKET_FIN,
    PACKET_REQ,
    PACKET_STAT,
    Packet,
    Stat,
)
from coved.dockerfile.instructions import DockerfileError
from coved.grpc.call import Call
from coved.grpc.status import Code, GrpcError, Metadata

from cove.build.tree import Entry, Selection, Tree

CHUNK = 32 * 1024
"""Bytes of a file in one message: what other senders put there."""
READ = 32 * CHUNK
AT_ONCE = 256
"""Entries that are looked at before the first of them is sent."""

Packets = Call[Packet, Packet]


def values(metadata: Metadata, name: str) -> list[str]:
    """What the engine has sent by that name: texts that are not all ASCII come form-encoded."""
    found = [value for key, value in metadata if key == name]
    encoded = dict(metadata).get(f"{name}-encoded", "") in ("1", "t", "T", "true", "TRUE", "True")
    return [unquote_plus(value) for value in found] if encoded else found


async def send(call: Packets, trees: dict[str, Tree]) -> None:
    """Serve one call: the tree that it names. Raises `GrpcError`."""
    name = next(iter(values(call.metadata, "dir-name")), "")
    tree = trees.get(name)
    if tree is None:
        raise GrpcError(Code.NOT_FOUND, f'no access allowed to dir "{name}"')
    includes = values(call.metadata, "include-patterns")
    excludes = values(call.metadata, "exclude-patterns")
    follow = values(call.metadata, "followpaths")
    try:
        if follow:
            found = await asyncio.to_thread(tree.followed, follow)
            includes += found or ()
        selection = Selection(includes, excludes)
    except DockerfileError as error:
        raise GrpcError(Code.UNKNOWN, str(error)) from None
    await Sending(call, tree, selection).run()


class Sending:
    """One transfer."""

    def __init__(self, call: Packets, tree: Tree, selection: Selection) -> None:
        self._call = call
        self._tree = tree
        self._selection = selection
        self._files: dict[int, str] = {}
        """Those that can be asked for, by their numbers."""
        self._asked: asyncio.Queue[int | None] = asyncio.Queue()
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Raises `GrpcError`."""
        tasks = [asyncio.ensure_future(each) for each in (self._receive(), self._walk(), self._answer())]
        try:
            await asyncio.gather(*tasks)
        except OSError as error:
            text = f"{_operation(error)} {error.filename}: {(error.strerror or str(error)).lower()}"
            await self._send(Packet(PACKET_ERR, data=text.encode(errors="replace")))
            raise GrpcError(Code.UNKNOWN, text) from error
        finally:
            for task in tasks:
                task.cancel()

    async def _send(self, packet: Packet) -> None:
        async with self._turn:  # a message must not come in the middle of another
            await self._call.send(packet)

    async def _receive(self) -> None:
        while (packet := await self._call.receive()) is not None:
            if packet.type == PACKET_REQ:
                self._asked.put_nowait(packet.id)
            elif packet.type == PACKET_FIN:
                await self._send(Packet(PACKET_FIN))
                break
            elif packet.type == PACKET_ERR:
                raise GrpcError(Code.UNKNOWN, f"error from receiver: {packet.data.decode(errors='replace')}")
        self._asked.put_nowait(None)

    async def _walk(self) -> None:
        """Tell of the entries."""
        number = 0
        entries = self._tree.walk(self._selection)
        while batch := await asyncio.to_thread(_several, entries):
            for entry in batch:
                if entry.regular:
                    self._files[number] = entry.path
                await self._send(Packet(PACKET_STAT, stat(entry)))
                number += 1
        await self._send(Packet(PACKET_STAT))

    async def _answer(self) -> None:
        """Send the files that are asked for."""
        while (number := await self._asked.get()) is not None:
            path = self._files.pop(number, None)
            if path is None:
                raise GrpcError(Code.UNKNOWN, f"invalid file id {number}")
            await self._send_file(number, path)

    async def _send_file(self, number: int, path: str) -> None:
        """Send it as it is now, whatever was told of it. What has vanished is empty."""
        descriptor, data = await asyncio.to_thread(self._begin, path)
        try:
            while data:
                for at in range(0, len(data), CHUNK):
                    await self._send(Packet(PACKET_DATA, id=number, data=data[at : at + CHUNK]))
                if descriptor is None or len(data) < READ:
                    break
                data = await asyncio.to_thread(os.read, descriptor, READ)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        await self._send(Packet(PACKET_DATA, id=number))

    def _begin(self, path: str) -> tuple[int | None, bytes]:
        """A descriptor and the beginning of the file; None when that is all of it."""
        descriptor = self._tree.open(path)
        if descriptor is None:
            return None, b""
        try:
            data = os.read(descriptor, READ)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                error.filename = str(self._tree.root / path)
            raise
        if len(data) < READ:
            os.close(descriptor)
            return None, data
        return descriptor, data


def _several(entries: Iterator[Entry]) -> list[Entry]:
    return list(islice(entries, AT_ONCE))


def _operation(error: OSError) -> str:
    return "read" if isinstance(error, IsADirectoryError) else "open"


def stat(entry: Entry) -> Stat:
    """An entry as the protocol has it. Whose it is does not matter to a build: all is root's."""
    major, minor = entry.device
    return Stat(
        path=entry.path,
        mode=entry.mode,
        size=entry.size,
        mod_time=entry.modified,
        linkname=entry.link,
        devmajor=major,
        devminor=minor,
        xattrs=entry.attributes,
    )
