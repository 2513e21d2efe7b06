"""Sends a folder of the user's to the engine, as it asks for it (moby.filesync.v1.FileSync/DiffCopy).

The engine is told of each entry, in order, and asks for the contents of files by their numbers while the list goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterator, Sequence
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

    async def run(self) -> None:
        """Raises `GrpcError`."""
        tasks = [asyncio.ensure_future(each) for each in (self._receive(), self._walk(), self._answer())]
        try:
            await asyncio.gather(*tasks)
        except OSError as error:
            text = f"{_operation(error)} {error.filename}: {(error.strerror or str(error)).lower()}"
            await self._call.send(Packet(PACKET_ERR, data=text.encode(errors="replace")))
            raise GrpcError(Code.UNKNOWN, text) from error
        finally:
            for task in tasks:
                task.cancel()

    async def _receive(self) -> None:
        while (packet := await self._call.receive()) is not None:
            if packet.type == PACKET_REQ:
                self._asked.put_nowait(packet.id)
            elif packet.type == PACKET_FIN:
                await self._call.send(Packet(PACKET_FIN))
                break
            elif packet.type == PACKET_ERR:
                raise GrpcError(Code.UNKNOWN, f"error from receiver: {packet.data.decode(errors='replace')}")
        self._asked.put_nowait(None)

    async def _walk(self) -> None:
        """Tell of the entries."""
        number = 0
        entries = self._tree.walk(self._selection)
        while batch := await asyncio.to_thread(_several, entries):
            packets = []
            for entry in batch:
                if entry.regular:
                    self._files[number] = entry.path
                packets.append(Packet(PACKET_STAT, stat(entry)))
                number += 1
            await self._call.send_all(packets)
        await self._call.send(Packet(PACKET_STAT))

    async def _answer(self) -> None:
        """Send the files that are asked for: as they are now, whatever was told of them. What has vanished is empty."""
        wanted: deque[tuple[int, str]] = deque()
        ended = False
        while True:
            # What has been asked for already is read together: one by one, small files would take many times as long.
            while not ended and len(wanted) < AT_ONCE and not (wanted and self._asked.empty()):
                number = await self._asked.get()
                if number is None:
                    ended = True
                elif (path := self._files.pop(number, None)) is None:
                    raise GrpcError(Code.UNKNOWN, f"invalid file id {number}")
                else:
                    wanted.append((number, path))
            if not wanted:
                return
            await self._send_some(wanted)

    async def _send_some(self, wanted: deque[tuple[int, str]]) -> None:
        """Send the first of `wanted`, and take them away."""
        contents, descriptor = await asyncio.to_thread(self._read, [path for _, path in wanted])
        packets = []
        for data in contents:
            number, _ = wanted.popleft()
            packets += _contents(number, data)
            packets.append(Packet(PACKET_DATA, id=number))
        if descriptor is None:
            await self._call.send_all(packets)
            return
        ending = packets.pop()
        try:
            await self._call.send_all(packets)
            while data := await asyncio.to_thread(os.read, descriptor, READ):
                await self._call.send_all(_contents(ending.id, data))
        finally:
            os.close(descriptor)
        await self._call.send(ending)

    def _read(self, paths: Sequence[str]) -> tuple[list[bytes], int | None]:
        """The contents of the first of the files, as much as is read at once; when that is not all of the last one, the
        rest is in the descriptor.
        """
        contents: list[bytes] = []
        room = READ
        for path in paths:
            descriptor = self._tree.open(path)
            data = b""
            if descriptor is not None:
                try:
                    data = os.read(descriptor, room)
                except BaseException as error:
                    os.close(descriptor)
                    if isinstance(error, OSError):
                        error.filename = str(self._tree.root / path)
                    raise
            contents.append(data)
            room -= len(data)
            if not room:
                return contents, descriptor
            if descriptor is not None:
                os.close(descriptor)
        return contents, None


def _contents(number: int, data: bytes) -> list[Packet]:
    return [Packet(PACKET_DATA, id=number, data=data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]


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
