"""Images coming in: loaded, pulled or made here. What they consist of is staged first; then all of it is added at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from coved.finishing import to_the_end
from coved.images import documents
from coved.images.catalog import Catalog
from coved.images.documents import Platform
from coved.images.model import Image
from coved.images.staging import Published, Staging
from coved.store.blobs import BlobStore


@dataclass(frozen=True)
class Arrival:
    """An image's configuration, and the manifest that it came with, b"" for none. Raises BadDocument when it is made of
    documents that are none, or that contradict each other."""

    config: bytes
    manifest: bytes = b""
    id: str = field(init=False)
    diff_ids: tuple[str, ...] = field(init=False)
    blobs: tuple[str, ...] = field(init=False)
    """For each layer the digest of the archive that the manifest names, "" when any will do."""

    def __post_init__(self) -> None:
        diff_ids = documents.config(self.config).diff_ids
        image_id = f"sha256:{hashlib.sha256(self.config).hexdigest()}"
        blobs: tuple[str, ...] = ("",) * len(diff_ids)
        if self.manifest:
            manifest = documents.manifest(self.manifest)
            if manifest.config.digest != image_id:
                raise documents.BadDocument("invalid image manifest: it is of another configuration")
            blobs = tuple(layer.digest for layer in manifest.layers)
            if len(blobs) != len(diff_ids):
                raise documents.BadDocument(
                    f"the image has {len(blobs)} layers, and its configuration says {len(diff_ids)}"
                )
        for name, value in (("id", image_id), ("diff_ids", diff_ids), ("blobs", blobs)):
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Added:
    """``images`` are as they were given; ``previous`` tells for each canonical name the id of the image that lost it."""

    images: list[Image]
    previous: dict[str, str]


class Arrivals:
    """All methods belong to the event loop.

    Args:
        changing: held while images are changed.
    """

    def __init__(self, catalog: Catalog, blobs: BlobStore, changing: asyncio.Lock) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._changing = changing

    def lacks(self, arrival: Arrival, staging: Staging) -> list[int]:
        """Which of its layers, by position, are neither in the store nor staged, so that somebody has to bring them."""
        return [
            position
            for position, (diff_id, blob) in enumerate(zip(arrival.diff_ids, arrival.blobs, strict=True))
            if not (diff_id in self._catalog.layer_sizes or diff_id in staging)
            or (blob and not (self._catalog.has_blob(blob, diff_id) or staging.has_blob(blob, diff_id)))
        ]

    async def add(
        self, arrivals: Sequence[Arrival], staging: Staging, names: Sequence[str] = (), index: bytes = b""
    ) -> Added | None:
        """Adds images, one for each platform, and gives them all the same canonical names. A name keeps its images for other
        platforms when they came with the same ``index``, and loses them otherwise.

        None, and nothing is done, when a layer is lacking: what another image had a moment ago may have gone with it.
        """
        return await to_the_end(self._add(arrivals, staging, names, index))

    async def _add(
        self, arrivals: Sequence[Arrival], staging: Staging, names: Sequence[str], index: bytes
    ) -> Added | None:
        async with self._changing:
            if any(self.lacks(arrival, staging) for arrival in arrivals):
                return None
            diff_ids = [diff_id for arrival in arrivals for diff_id in arrival.diff_ids]
            published = await staging.publish(self._catalog, diff_ids)
            try:
                return await self._record(arrivals, published, names, index)
            except BaseException:
                await staging.withdraw(self._catalog, published)
                raise

    async def _record(
        self, arrivals: Sequence[Arrival], published: Published, names: Sequence[str], index: bytes
    ) -> Added:
        """All of it or nothing, once all files are in their places: a kill leaves no image without the name that it came by."""
        written: dict[bytes, str] = {}
        try:
            for arrival in arrivals:
                for document in (arrival.config, arrival.manifest):
                    if document and document not in written:
                        written[document] = await asyncio.to_thread(self._blobs.put, document)
            # Not in a thread: nobody may drop an index as nobody's before it is recorded.
            index_digest = written[index] = self._blobs.put(index) if index and names else ""
            ids = [*dict.fromkeys(arrival.id for arrival in arrivals)]
            taken = {documents.config(arrival.config).platform for arrival in arrivals}
            previous = {}
            with self._catalog.transaction():
                published.record(self._catalog)
                for arrival in arrivals:
                    self._catalog.add(arrival.id, arrival.diff_ids)
                    if arrival.manifest:
                        manifest = documents.manifest(arrival.manifest)
                        self._catalog.add_manifest(arrival.id, written[arrival.manifest], manifest)
                for name in names:
                    same = index_digest and self._catalog.index_of(name) == index_digest
                    kept = self._others(name, ids, taken) if same else []
                    for lost in self._catalog.holders(name):
                        if lost not in ids and lost not in kept:
                            previous[name] = lost
                    self._catalog.set_name(name, [*ids, *kept], index_digest)
        except BaseException:
            for digest in written.values():
                if digest and not self._catalog.is_blob(digest):
                    self._blobs.remove(digest)
            raise
        return Added([self._catalog.by_id(image_id) for image_id in ids], previous)

    def _others(self, name: str, ids: Sequence[str], taken: set[Platform]) -> list[str]:
        """Who has the name and is for a platform that none of ``ids`` is for; theirs are ``taken``."""
        return [
            one
            for one in self._catalog.holders(name)
            if one not in ids and self._catalog.by_id(one).platform not in taken
        ]
