"""What comes in an image archive becomes images of the engine."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any

from coved.images import reference
from coved.images.arrivals import Added, Arrival, Arrivals
from coved.images.catalog import Catalog
from coved.images.model import Image
from coved.images.read_archive import ArchivedGroup, ArchivedLayer
from coved.images.staging import Staging
from coved.images.streams import CountedFile
from coved.images.tar import BadArchive

Progress = Callable[[dict[str, Any]], None]
"""Takes one JSON message of Docker's progress streams."""

# Progress messages of one layer are no closer together than this.
_REPORT_BYTES = 512 * 1024
# A layer that was here when its archive came may have been removed meanwhile: then it is unpacked as well.
_UNPACKED_MAX = 2


class Loader:
    """One load. Belongs to the event loop.

    Args:
        event: tells of an action on an image by its id, and by which name.
        report: told of progress; not with ``quiet``, but for the names of what was loaded.
    """

    def __init__(
        self, catalog: Catalog, arrivals: Arrivals, workers: Executor, event: Callable[[str, str, str], None],
        report: Progress, *, quiet: bool,
    ) -> None:  # fmt: skip
        self._catalog = catalog
        self._arrivals = arrivals
        self._workers = workers
        self._event = event
        self._report = report
        self._quiet = quiet

    async def load(self, group: ArchivedGroup, staging: Staging) -> list[Image]:
        """Unpacks what is lacking, side by side, and adds the images with their names.

        Raises InvalidParameter, OSError.
        """
        arrivals = [Arrival(image.config, image.manifest) for image in group.images]
        added, unpacked = None, Counter[str]()
        while added is None:
            wanted: dict[str, ArchivedLayer] = {}
            for image, arrival in zip(group.images, arrivals, strict=True):
                lacking = {*self._arrivals.lacks(arrival, staging), *self._without_archive(arrival, staging)}
                for layer in (image.layers[position] for position in sorted(lacking)):
                    wanted[layer.digest] = layer
            unpacked.update(wanted.keys())
            for digest in wanted:
                if unpacked[digest] > _UNPACKED_MAX:
                    raise BadArchive(f"layer {digest} is not what the image needs, though it was unpacked")
            await _side_by_side([self._unpack(layer, staging) for layer in wanted.values()])
            added = await self._arrivals.add(arrivals, staging, group.names, group.index)
        self._tell(group, added)
        return added.images

    def _tell(self, group: ArchivedGroup, added: Added) -> None:
        for name in group.names:
            familiar = reference.parse(name).familiar
            if name in added.previous:
                self._report(
                    {
                        "stream": f"The image {familiar} already exists, renaming the old one with ID "
                        f"{added.previous[name]} to empty string\n"
                    }
                )
            self._report({"stream": f"Loaded image: {familiar}\n"})
            self._event("tag", added.images[0].id, familiar)
        for image in added.images:
            if not group.names:
                self._report({"stream": f"Loaded image ID: {image.id}\n"})
            self._event("load", image.id, "")

    def _without_archive(self, arrival: Arrival, staging: Staging) -> list[int]:
        """Layers of an earlier version of the engine, which kept no archives."""
        return [
            position
            for position, diff_id in enumerate(arrival.diff_ids)
            if diff_id in self._catalog.layer_sizes
            and not self._catalog.blobs(diff_id)
            and not staging.has_blob_of(diff_id)
        ]

    async def _unpack(self, layer: ArchivedLayer, staging: Staging) -> None:
        loop = asyncio.get_running_loop()
        total = (await asyncio.to_thread(layer.path.stat)).st_size
        short_id = layer.diff_id.removeprefix("sha256:")[:12]
        reported = 0

        def count(done: int) -> None:
            nonlocal reported
            if not self._quiet and (done - reported >= _REPORT_BYTES or done == total):
                reported = done
                detail = {"current": done, "total": total}
                message = {"status": "Loading layer", "progressDetail": detail, "id": short_id}
                loop.call_soon_threadsafe(self._report, message)

        known = layer.diff_id in self._catalog.layer_sizes or layer.diff_id in staging
        with await asyncio.to_thread(layer.path.open, "rb") as file:
            source = CountedFile(file.read, count)
            await staging.unpack_file(
                self._workers, layer.path, layer.digest, source, source.abort, layer.diff_id, is_known=known
            )


async def _side_by_side(work: list[Coroutine[Any, Any, None]]) -> None:
    """Does all of it at once. With the first that fails the others are given up, and waited for: they use files of ours."""
    tasks = [asyncio.ensure_future(one) for one in work]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    failed = [task for task in tasks if not task.cancelled() and task.exception() is not None]
    for task in failed or tasks:
        task.result()
