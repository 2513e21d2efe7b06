"""Build contexts that come as an archive, with the request of a classic build."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from coved.build.snapshots import Snapshots
from coved.errors import EngineError
from coved.images.compression import DecompressedStream, PeekedStream, Source
from coved.images.extract import Extractor
from coved.images.streams import CountedFile, OwnThreads, ThreadStream, in_thread
from coved.images.tar import TarReader
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

    async def unpack_file(self, archive: Path, folder: Path) -> None:
        """The same with a file of this machine."""
        with await asyncio.to_thread(archive.open, "rb") as file:
            source = CountedFile(file.read, lambda _: None)
            await in_thread(OwnThreads(), lambda: _unpack(source, folder), source.abort)

    async def copy(self, tree: Path, folder: Path) -> None:
        """Puts what is in a directory into a folder."""

        def work() -> None:
            fd = os.open(tree, _DIRECTORY)
            try:
                copy_tree(fd, folder)
            finally:
                os.close(fd)

        await asyncio.to_thread(work)


def is_archive(path: Path) -> bool:
    """Whether a file is a tar archive, plain or compressed."""
    with path.open("rb") as file:
        try:
            return next(iter(TarReader(DecompressedStream(PeekedStream(file)))), None) is not None
        except (EngineError, EOFError):
            return False


def _unpack(source: Source, folder: Path) -> None:
    fd = os.open(folder, _DIRECTORY)
    try:
        Extractor(fd, whiteouts=False).extract(TarReader(DecompressedStream(PeekedStream(source))))
    finally:
        os.close(fd)
