"""Archives of layers as registries want them: compressed."""

from __future__ import annotations

import asyncio
import functools
import zlib
from concurrent.futures import Executor
from pathlib import Path

from coved.errors import NotFound
from coved.finishing import to_the_end
from coved.images import documents
from coved.images.catalog import Catalog
from coved.images.documents import OCI_LAYER
from coved.images.export import Export
from coved.images.layers import Blob
from coved.images.model import Image
from coved.images.staging import Staging
from coved.images.streams import Aborted, in_thread
from coved.images.write_archive import SavedManifest, make_manifest
from coved.store.blobs import BlobStore, SealedBlob

_CHUNK = 256 * 1024
# gzip's own default, as docker push has it; the header that zlib writes has no time in it.
_LEVEL = 6
_GZIP_LAYER = f"{OCI_LAYER}+gzip"


class Packer:
    """Belongs to the event loop. ``changing`` is held while images are changed."""

    def __init__(self, catalog: Catalog, blobs: BlobStore, changing: asyncio.Lock, workers: Executor) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._changing = changing
        self._workers = workers
        self._export = Export(catalog, blobs)

    async def pack(self, image: Image, staging: Staging) -> SavedManifest:
        """The manifest to push an image by: the latest that it came with and whose layers are compressed, or else one that is
        made for it now and is the image's from then on. Plain layers are compressed for it, and kept so.

        Raises NotFound when the image goes meanwhile, EngineError.
        """
        for digest in self._catalog.manifests(image.id):
            saved = self._export.manifest(image, digest)
            # What is in the archives counts: manifests have been seen that call compressed layers plain.
            kinds = {self._catalog.media_type_of(layer.digest) for layer in documents.manifest(saved.document).layers}
            if OCI_LAYER not in kinds:
                return saved
        self._export.manifest(image)  # says what layers of an earlier version lack
        while True:
            for diff_id in dict.fromkeys(image.diff_ids):
                blobs = self._catalog.blobs(diff_id)
                if not blobs:
                    raise NotFound(f"No such image: {image.id}")
                if self._packed(diff_id) is None and not staging.has_blob_of(diff_id):
                    await self._pack(diff_id, blobs[0], staging)
            packed = await to_the_end(self._add(image, staging))
            if packed is not None:
                return packed

    async def _add(self, image: Image, staging: Staging) -> SavedManifest | None:
        """None, and nothing is done, when a layer that was there compressed has gone so with the image that it came with."""
        async with self._changing:
            if not self._catalog.has(image.id):
                raise NotFound(f"No such image: {image.id}")
            if any(self._packed(one) is None and not staging.has_blob_of(one) for one in image.diff_ids):
                return None
            published = await staging.publish(self._catalog, image.diff_ids)
            try:
                made = {diff_id: blob for diff_id, blobs in published.blobs.items() for blob in blobs}
                layers = [self._packed(diff_id) or made[diff_id] for diff_id in image.diff_ids]
                size = self._blobs.path(image.id).stat().st_size
                document = make_manifest(image.id, size, layers)
                digest = await asyncio.to_thread(self._blobs.put, document)
                with self._catalog.transaction():
                    published.record(self._catalog)
                    self._catalog.add_manifest(image.id, digest, documents.manifest(document))
            except BaseException:
                await staging.withdraw(self._catalog, published)
                raise
            for blob in self._catalog.drop_spare(image.diff_ids):
                await asyncio.to_thread(self._blobs.remove, blob.digest)
            return self._export.manifest(image, digest)

    def _packed(self, diff_id: str) -> Blob | None:
        return next((one for one in self._catalog.blobs(diff_id) if one.media_type != OCI_LAYER), None)

    async def _pack(self, diff_id: str, blob: Blob, staging: Staging) -> None:
        work = _Compression(self._blobs, self._blobs.path(blob.digest))
        keep = functools.partial(staging.keep, work.run, diff_id, _GZIP_LAYER)
        try:
            await in_thread(self._workers, keep, work.abort)
        except FileNotFoundError:
            # Another push may have compressed it meanwhile, and then nobody needs the plain one.
            if self._packed(diff_id) is None:
                raise NotFound(f"layer {diff_id} was removed meanwhile") from None


class _Compression:
    """One plain archive being compressed in a thread."""

    def __init__(self, blobs: BlobStore, path: Path) -> None:
        self._blobs = blobs
        self._path = path
        self._aborted = False

    def run(self) -> SealedBlob:
        """Raises ``Aborted`` after ``abort``, OSError. The blob is the caller's, to publish or to unlink."""
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        with self._path.open("rb") as file, self._blobs.writer() as writer:
            while data := file.read(_CHUNK):
                if self._aborted:
                    raise Aborted("the push was given up")
                writer.write(packer.compress(data))
            writer.write(packer.flush())
            return writer.seal()

    def abort(self) -> None:
        self._aborted = True
