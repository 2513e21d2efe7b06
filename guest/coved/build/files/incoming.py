"""Build contexts that come as an archive, with the request of a classic build."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from coved.build.cache.snapshots import Snapshots
from coved.images.compression import DecompressedStream, PeekedStream, Source
from coved.images.extract import Extractor
from coved.images.streams import OwnThreads, ThreadStream, in_thread
from coved.images.tar import Entry, TarReader
from coved.store.trees import copy_tree

_CHUNK = 1 << 18
_AHEAD = 4 << 20
"""Bytes that are taken into memory first: most contexts are smaller, and need nothing of their client meanwhile."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Incoming:
    """Folders for them, each of one build."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def folder(self) -> AbstractContextManager[Path]:
        """An empty folder, which is gone soon after the context is left."""
        return self._snapshots.folder()

    async def unpack(self, chunks: AsyncIterator[bytes], folder: Path) -> None:
        """Unpacks an archive, plain or compressed, into a folder. Raises BadArchive, OSError."""
        source = ThreadStream(chunks)

        def work() -> None:
            _unpack(source, folder)
            while source.read(_CHUNK):  # what follows the archive's end belongs to the request all the same
                pass

        # One that is here as a whole keeps no thread from others.
        whole = await source.begin(_AHEAD)
        await in_thread(None if whole else OwnThreads(), work, source.abort)

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
        # After a Dockerfile from outside the context docker's client does not fill the last block.
        archive = TarReader(DecompressedStream(PeekedStream(source)), ends_anyhow=True)
        _Roots(fd, whiteouts=False).extract(archive)
    finally:
        os.close(fd)
