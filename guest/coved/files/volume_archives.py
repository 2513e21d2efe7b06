"""Whole volumes as archives, out and in: what ``cove volume export`` and ``import`` ask for (docs/decisions/0040)."""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from coved.errors import Conflict, InvalidParameter, NotFound
from coved.files import tarwriter
from coved.files.stream import ArchiveStream
from coved.images.compression import DecompressedStream
from coved.images.extract import Extractor
from coved.images.layers import sync_file_system
from coved.images.streams import OwnThreads, ThreadStream, in_thread
from coved.images.tar import BadArchive, TarReader
from coved.runtime.ids import Ids
from coved.store.trees import copy_attributes, remove_entry
from coved.volumes import Volume, Volumes, validate_name

_WORKERS = 4
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 4096
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
        path = self._volumes.path(name)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._volumes.opened([name]))
            root = os.open(path, _DIRECTORY)
            stack.callback(os.close, root)
            archive = tarwriter.archive(root, ".", ".", Ids(), whole=True)
            if compression != "none":
                archive = _compressed(archive, _compressor(compression))
            return _SUFFIXES[compression], ArchiveStream(archive, self._workers, stack.pop_all(), path.parent)
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
            if not replace and await self._run(lambda: any(volume.path.iterdir())):
                raise Conflict(f"import {volume.name}: the volume is not empty: use --force to replace what is in it")
            async with self._volumes.draft() as draft:
                if not volume.mounted:
                    await _unpack(draft, chunks)
                    await self._run(lambda: _exchange(draft, volume.path))
                    return
                # What is mounted is another file system, to which nothing can be moved from the data disk.
                await self._run(lambda: _empty(volume.path))
                try:
                    await _unpack(volume.path, chunks)
                except BaseException:
                    await self._run(lambda: _empty(volume.path))
                    raise

    async def _run(self, work: Callable[[], bool | None]) -> bool | None:
        return await in_thread(self._workers, work, lambda: None)


class _Filler(Extractor):
    """Leaves holes where an archive has blocks of zeros: a database's files may be much larger than what they hold."""

    def __init__(self, root: int) -> None:
        super().__init__(root, whiteouts=False)

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
        root = os.open(directory, _DIRECTORY)
        try:
            stream = DecompressedStream(source)
            first = stream.read(512)
            if not first:
                raise BadArchive("unexpected EOF: the archive is empty")
            _Filler(root).extract(TarReader(_Ahead(first, stream)))
            sync_file_system(root)
        finally:
            os.close(root)

    await in_thread(OwnThreads(), work, source.abort)


class _Ahead:
    """A stream of which ``head`` has been read already."""

    def __init__(self, head: bytes, stream: DecompressedStream) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int) -> bytes:
        head, self._head = self._head[:size], self._head[size:]
        return head or self._stream.read(size)


def _exchange(new: Path, old: Path) -> None:
    """Each gets what is in the other, and ``old`` the owner, mode and attributes of ``new``. Containers that use it see each
    entry change at once; what fails is undone. Raises OSError."""
    aside = new.with_name("old")
    aside.mkdir(mode=0o700)
    moved: list[tuple[Path, Path]] = []
    status = new.stat()  # moving changes its times
    try:
        for source, target in ((old, aside), (new, old)):
            for entry in list(source.iterdir()):
                entry.rename(target / entry.name)
                moved.append((entry, target / entry.name))
    except BaseException:
        for entry, place in reversed(moved):
            place.rename(entry)
        raise
    source_fd, target_fd = os.open(new, _DIRECTORY), os.open(old, _DIRECTORY)
    try:
        os.fchown(target_fd, status.st_uid, status.st_gid)
        os.fchmod(target_fd, stat.S_IMODE(status.st_mode))
        copy_attributes(source_fd, target_fd)
        os.utime(target_fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        sync_file_system(target_fd)
    finally:
        os.close(source_fd)
        os.close(target_fd)


def _empty(directory: Path) -> None:
    fd = os.open(directory, _DIRECTORY)
    try:
        for name in os.listdir(fd):  # noqa: PTH208 - of a descriptor
            remove_entry(fd, name)
    finally:
        os.close(fd)


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
