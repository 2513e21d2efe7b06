"""Build contexts that come as an archive, with the request of a classic build."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from coved.build.snapshots import Snapshots
from coved.images.compression import DecompressedStream, PeekedStream
from coved.images.extract import Extractor
from coved.images.streams import OwnThreads, ThreadStream, in_thread
from coved.images.tar import TarReader


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
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                stream = DecompressedStream(PeekedStream(source))
                Extractor(fd, whiteouts=False).extract(TarReader(stream))
            finally:
                os.close(fd)
            while source.read(1 << 18):  # what follows the archive's end belongs to the request all the same
                pass

        await in_thread(OwnThreads(), work, source.abort)
