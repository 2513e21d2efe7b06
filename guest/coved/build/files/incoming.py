"""Build contexts that come as an archive, with the request of a classic build."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from coved.build.cache.snapshots import Snapshots
from coved.images.compression import DecompressedStream, PeekedStream, Source
from coved.images.extract import Extractor
from coved.images.streams import OwnThreads, ThreadStream, in_thread
from coved.images.tar import Entry, TarReader
from coved.store.trees import copy_tree

_CHUNK = 1 << 18
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Incoming:
    """Folders for them, each of one build."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    @contextlib.asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """An empty folder, which is gone when the context is left."""
        async with self._snapshots.draft() as draft:
            path = draft.directory / "context"
            path.mkdir(mode=0o700)
            yield path

    async def unpack(self, chunks: AsyncIterator[bytes], folder: Path) -> None:
        """Unpacks an archive, plain or compressed, into a folder. Raises BadArchive, OSError."""
        source = ThreadStream(chunks)

        def work() -> None:
            _unpack(source, folder)
            while source.read(_CHUNK):  # what follows the archive's end belongs to the request all the same
                pass

        await in_thread(OwnThreads(), work, source.abort)

    async def copy(self, tree: Path, folder: Path) -> None:
        """Puts what is in a directory into a folder."""

        def work() -> None:
            fd = os.open(tree, _DIRECTORY)
            try:
                copy_tree(fd, folder)
            finally:
                os.close(fd)

        await asyncio.to_thread(work)


class _Roots(Extractor):
    """All that comes from a client belongs to root."""

    def _place(self, entry: Entry, archive: TarReader) -> None:
        super()._place(replace(entry, uid=0, gid=0), archive)


def _unpack(source: Source, folder: Path) -> None:
    fd = os.open(folder, _DIRECTORY)
    try:
        _Roots(fd, whiteouts=False).extract(TarReader(DecompressedStream(PeekedStream(source))))
    finally:
        os.close(fd)
