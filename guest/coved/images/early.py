"""Layers that are unpacked while the archive that they come in is still being received.

Which of an archive's members are layers is known at its end. What looks like one is taken for one as soon as it has come whole: so
the unpacking waits for no client. A guess that was wrong costs its time, and its error is nobody's.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Executor
from pathlib import Path

from coved.errors import EngineError
from coved.images.catalog import Catalog
from coved.images.compression import media_type
from coved.images.documents import OCI_LAYER
from coved.images.loading import Progress
from coved.images.staging import Staging
from coved.images.streams import CountedFile

_LEAST = 1 << 16
"""Bytes; what is smaller is unpacked in no time."""
_MAGIC = slice(257, 262)
"""Where a tar archive says "ustar" (POSIX.1-2017, pax)."""


class EarlyLayers:
    """Of one archive; ``arrived`` is for the thread that receives it, everything else for the event loop."""

    def __init__(self, catalog: Catalog, staging: Staging, workers: Executor, report: Progress | None) -> None:
        """``report``: told of each that is there; None for nobody."""
        self._report = report
        self._catalog = catalog
        self._staging = staging
        self._workers = workers
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []

    def arrived(self, path: Path, digest: str) -> None:
        """A file of the archive is there, whole, and stays as it is."""
        if path.stat().st_size >= _LEAST and _looks_like_a_layer(path):
            self._loop.call_soon_threadsafe(self._begin, path, digest)

    async def settle(self) -> None:
        """Waits until all that has arrived is unpacked."""
        await asyncio.sleep(0)  # for what has arrived just now
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Gives up what is still going on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, path: Path, digest: str) -> None:
        if not (digest in self._catalog.layer_sizes or self._catalog.is_blob(digest)):
            self._tasks.append(self._loop.create_task(self._unpack(path, digest)))

    async def _unpack(self, path: Path, digest: str) -> None:
        try:
            with await asyncio.to_thread(path.open, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                source = CountedFile(file.read, lambda _: None)
                layer = await self._staging.unpack_file(
                    self._workers, path, digest, source, source.abort, "", is_known=False
                )
        except (EngineError, OSError):
            return  # if it is a layer, whoever needs it will find the same, and tell
        if self._report is not None:
            detail, short_id = {"current": size, "total": size}, layer.diff_id.removeprefix("sha256:")[:12]
            self._report({"status": "Loading layer", "progressDetail": detail, "id": short_id})


def _looks_like_a_layer(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_MAGIC.stop)
    return head[_MAGIC] == b"ustar" or media_type(head) not in ("", OCI_LAYER)
