"""Whole volumes as archives, out and in: what ``cove volume export`` and ``import`` ask for (docs/decisions/0040)."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from coved.errors import Conflict, EngineError, InvalidParameter, NotFound
from coved.files import tarwriter
from coved.files.stream import ArchiveStream, IteratorSource
from coved.images.compression import DecompressedStream
from coved.images.extract import REMEMBERED_MAX, Extractor, Limits
from coved.images.streams import OwnThreads, ThreadStream, in_thread
from coved.images.tar import BadArchive, TarReader
from coved.runtime.ids import Ids
from coved.store.trees import is_empty, opened_directory, remove_entry, sync_file_system
from coved.volumes import Volume, Volumes, validate_name
from coved.volumes.exchange import NotEmpty

_WORKERS = 4
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 4096
# Bounds for memory alone: what was a volume's must fit into one again. It takes some 400 bytes for each directory.
_MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
LIMITS = Limits("archive", entries=1 << 40, attributes=1 << 50, remembered=max(REMEMBERED_MAX, _MEMORY // 4))
_SUFFIXES = {"none": "application/x-tar", "gzip": "application/gzip", "zstd": "application/zstd"}


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class VolumeArchives:
    """Reads and fills volumes, whatever containers do with them meanwhile."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes
        self._workers = ThreadPoolExecutor(_WORKERS, "volumes")
        self._importing: set[str] = set()

    async def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def read(self, name: str, compression: str = "none") -> tuple[str, AsyncIterator[bytes]]:
        """The media type of an archive of all files of a volume, and the archive: none, gzip or zstd.

        Raises NotFound, InvalidParameter, EngineError when the volume cannot be mounted.
        """
        if compression not in _SUFFIXES:
            raise InvalidParameter(f"unknown compression: {compression}")
        volume = self._volumes.get(name)
        # A server that does not answer keeps whoever asks it: that must not be the engine, nor one of the few workers.
        workers = OwnThreads() if volume.mounted else self._workers
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._volumes.opened([name]))
            root = await _open(volume.path, workers, stack)
            archive = tarwriter.archive(root, ".", ".", Ids(), whole=True)
            if compression != "none":
                archive = _compressed(archive, _compressor(compression))
            return _SUFFIXES[compression], ArchiveStream(archive, workers, stack.pop_all(), volume.path.parent)
        raise AssertionError("unreachable")

    async def write(self, name: str, chunks: AsyncIterator[bytes], *, replace: bool = False) -> tuple[Volume, bool]:
        """Fills a volume with what an archive holds; the volume, and whether it is new.

        One that is not there is made, once all of the archive has been unpacked. One with content keeps it and Conflict is
        raised, unless that is to be replaced. Archives are compressed in any way that an image's may be.

        Raises InvalidParameter, BadArchive, Conflict, OSError.
        """
        validate_name(name)
        if name in self._importing:
            raise Conflict(f"import {name}: another import into this volume is under way")
        self._importing.add(name)
        try:
            volume = self._look(name)
            if volume is None:
                async with self._volumes.draft() as draft:
                    await _unpack(draft, chunks)
                    return self._volumes.adopt(name, draft), True
            await self._fill(volume, chunks, replace)
            return volume, False
        finally:
            self._importing.discard(name)

    def _look(self, name: str) -> Volume | None:
        try:
            return self._volumes.get(name)
        except NotFound:
            return None

    async def _fill(self, volume: Volume, chunks: AsyncIterator[bytes], replace: bool) -> None:
        if volume.options.get("type") == "tmpfs" and not self._volumes.in_use(volume.name):
            raise Conflict(f"import {volume.name}: nothing would be kept: it is in memory, and no container uses it")
        async with self._volumes.opened([volume.name]):
            if not replace and not await in_thread(OwnThreads(), lambda: is_empty(volume.path), lambda: None):
                raise _not_empty(volume)
            async with self._volumes.draft() as draft:
                await _unpack(draft, chunks)
                try:
                    if volume.mounted:
                        # It is another file system, to which nothing can be moved from the data disk.
                        await in_thread(OwnThreads(), lambda: _copy(draft, volume, replace), lambda: None)
                    else:
                        await self._volumes.fill(volume.name, draft, replace=replace)
                except NotEmpty:  # since it was looked at: an upload may take as long as a client likes
                    raise _not_empty(volume) from None


async def _open(directory: Path, workers: Executor, stack: contextlib.AsyncExitStack) -> int:
    def work() -> int:
        fd = os.open(directory, _DIRECTORY)
        stack.callback(os.close, fd)  # here: the caller may have been cancelled, and waits for the end of this
        return fd

    return await in_thread(workers, work, lambda: None)


def _not_empty(volume: Volume) -> Conflict:
    return Conflict(f"import {volume.name}: the volume is not empty: use --force to replace what is in it")


class _Filler(Extractor):
    """Leaves holes where an archive has blocks of zeros: a database's files may be much larger than what they hold."""

    def __init__(self, root: int) -> None:
        super().__init__(root, whiteouts=False, limits=LIMITS)

    def _write(self, fd: int, archive: TarReader) -> None:
        size = 0
        while data := archive.read(256 * 1024):
            for start in range(0, len(data), _BLOCK):
                block = data[start : start + _BLOCK]
                if block.count(0) != len(block):
                    _write_at(fd, block, size + start)
            size += len(data)
        os.ftruncate(fd, size)
        self.size += size


def _write_at(fd: int, data: bytes, offset: int) -> None:
    while data:
        count = os.pwrite(fd, data, offset)
        data, offset = data[count:], offset + count


async def _unpack(directory: Path, chunks: AsyncIterator[bytes]) -> None:
    source = ThreadStream(chunks)

    def work() -> None:
        with opened_directory(directory) as root:
            stream = DecompressedStream(source)
            first = stream.read(512)
            if not first:
                raise BadArchive("unexpected EOF: the archive is empty")
            _Filler(root).extract(TarReader(_Ahead(first, stream)))
            sync_file_system(root)

    await in_thread(OwnThreads(), work, source.abort)


class _Ahead:
    """A stream of which ``head`` has been read already."""

    def __init__(self, head: bytes, stream: DecompressedStream) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int) -> bytes:
        head, self._head = self._head[:size], self._head[size:]
        return head or self._stream.read(size)


def _copy(draft: Path, volume: Volume, replace: bool) -> None:
    """Into what is mounted. Whatever can be wrong with an archive has been found by now; the file system may still be full."""
    with opened_directory(draft) as source, opened_directory(volume.path) as target:
        if replace:
            _empty(target, os.listdir(target))  # noqa: PTH208 - of a descriptor
        elif not is_empty(volume.path):
            raise NotEmpty(volume.name)
        try:
            files = tarwriter.archive(source, ".", ".", Ids(), whole=True)
            _Filler(target).extract(TarReader(IteratorSource(files)))
            sync_file_system(target)
        except (OSError, EngineError) as error:
            _empty(target, os.listdir(source))  # noqa: PTH208 - what a container has made is none of ours
            lost = "the volume is empty now" if replace else "nothing was kept"
            raise EngineError(f"import {volume.name}: {lost}: {error}") from error


def _empty(directory: int, names: list[str]) -> None:
    for name in names:
        remove_entry(directory, name)


def _compressor(kind: str) -> _Compressor:
    if kind == "zstd":
        from coved.images import zstd  # what it takes to call a library

        return zstd.Compressor()
    return zlib.compressobj(wbits=zlib.MAX_WBITS | 16)


def _compressed(archive: Iterator[bytes], compressor: _Compressor) -> Iterator[bytes]:
    try:
        for data in archive:
            if packed := compressor.compress(data):
                yield packed
        yield compressor.flush()
    finally:
        archive.close()  # type: ignore[attr-defined]
