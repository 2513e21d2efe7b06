"""What leaves the engine of an image: its manifest, and the blobs that this names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coved.errors import EngineError
from coved.images import documents, reference
from coved.images.catalog import Catalog
from coved.images.documents import DOCUMENT_LIMIT, Platform
from coved.images.model import Image
from coved.images.write_archive import Group, SavedManifest, make_manifest
from coved.store.blobs import BlobStore


class Export:
    """Reads small documents; nothing in here takes long."""

    def __init__(self, catalog: Catalog, blobs: BlobStore) -> None:
        self._catalog = catalog
        self._blobs = blobs

    def manifest(self, image: Image, digest: str = "") -> SavedManifest:
        """The manifest of that digest, or the one that the image got last, or one made for it. Raises EngineError when there
        can be none."""
        image.intact()
        known = [digest] if digest else self._catalog.manifests(image.id)
        if known:
            document = self._blobs.get(known[0], DOCUMENT_LIMIT)
        else:
            layers = []
            for diff_id in image.diff_ids:
                blobs = self._catalog.blobs(diff_id)
                if not blobs:
                    raise EngineError(
                        f"layer {diff_id} of image {image.short_id} was unpacked by an earlier version of Cove, which kept "
                        "no archive of it: load or pull the image again"
                    )
                layers.append(blobs[0])
            document = make_manifest(image.id, self._blobs.path(image.id).stat().st_size, layers)
        return SavedManifest(image.id, document, image.platform, image.diff_ids)

    def collect(self, texts: Sequence[str], platform: Platform | None) -> tuple[list[Group], dict[str, Path]]:
        """What an archive of these images holds: documents, and the files of all other blobs by digest.

        Raises NotFound, InvalidParameter, EngineError.
        """
        groups: dict[tuple[str, ...], Group] = {}
        paths: dict[str, Path] = {}
        for text in texts:
            for images, name, index in self._meant(text, platform):
                key = (*(image.id for image in images), index)
                if key not in groups:
                    groups[key] = self._group(images, index)
                if name and name not in groups[key].names:
                    groups[key].names.append(name)
        for group in groups.values():
            for saved in group.images:
                for digest in saved.blobs():
                    paths[digest] = self._blobs.path(digest)
        return [*groups.values()], paths

    def _group(self, images: list[Image], index: str) -> Group:
        """The index is left out unless it names a manifest of each image that is here: nobody could load what it leads to."""
        document = self._blobs.get(index, DOCUMENT_LIMIT) if index else b""
        if document:
            named = {one.digest for one in documents.index(document).manifests}
            digests = [next((one for one in self._catalog.manifests(image.id) if one in named), "") for image in images]
            if all(digests):
                saved = [self.manifest(image, digest) for image, digest in zip(images, digests, strict=True)]
                return Group(saved, [], document)
        return Group([self.manifest(image) for image in images], [])

    def _meant(self, text: str, platform: Platform | None) -> list[tuple[list[Image], str, str]]:
        """Images, the canonical name that they are to be saved by, or "", and the digest of their index, or ""."""
        names = self._catalog.names_meant(text)
        if not names:
            return [([self._catalog.find(text, platform)], "", "")]
        meant = []
        for one in names:
            shown = "" if reference.parse(one).digest else one
            if platform is not None:
                meant.append(([self._catalog.find(reference.parse(one).familiar, platform)], shown, ""))
            else:
                images = [self._catalog.by_id(image_id) for image_id in self._catalog.holders(one)]
                meant.append((images, shown, self._catalog.index_of(one)))
        return meant
