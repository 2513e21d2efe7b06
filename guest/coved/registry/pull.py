"""Pulling: from a name to an image with all its layers."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass

from coved.errors import EngineError, NotFound
from coved.finishing import all_of
from coved.images import Images, documents
from coved.images.arrivals import Arrival
from coved.images.documents import Index, Manifest, Platform
from coved.images.reference import Reference
from coved.images.staging import Staging
from coved.registry import choice
from coved.registry.calls import in_call
from coved.registry.errors import RegistryError
from coved.registry.progress import Report, action, message
from coved.registry.repository import Described, Repository
from coved.registry.sources import Source, Sources
from coved.registry.transfers import Transfer, Transfers
from coved.store.blobs import DamagedBlob

log = logging.getLogger(__name__)

DOWNLOADS = 3
"""Of one pull at the same time, as dockerd does."""
_NESTED_MAX = 4
_TRIES = 3
# What a configuration may call itself: old registries' words for "bytes", and images'.
_CONFIG_TYPES = frozenset(
    {"application/vnd.docker.container.image.v1+json", documents.OCI_CONFIG, "application/octet-stream",
     "application/json", "text/html", ""}
)  # fmt: skip
_SUPPORTED = (
    "application/vnd.oci.image", "application/vnd.docker", "application/octet-stream", "application/json", "text/html", "",
)  # fmt: skip


class ImageConfigError(RegistryError):
    """The configuration cannot be had, or cannot be used; from a mirror, the registry itself may do better."""


@dataclass
class Pull:
    """One name from one endpoint. ``platform`` is as the client wrote it."""

    images: Images
    sources: Sources
    transfers: Transfers
    repository: Repository
    name: Reference
    platform: str
    report: Report

    async def run(self) -> bool:
        """Whether anything has changed. Raises EngineError."""
        name = self.name
        if name.digest:
            changed = await self._pull(name, None)
        elif name.tag:
            changed = await self._pull(name, await in_call(lambda: self.repository.head(name.tag)))
        else:
            changed = False
            for tag in await in_call(self.repository.tags):
                described = await in_call(lambda tag=tag: self.repository.head(tag))  # type: ignore[misc]
                changed |= await self._pull(Reference(name.domain, name.path, tag), described)
        newer = "Downloaded newer image" if changed else "Image is up to date"
        self.report(message(f"Status: {newer} for {name.familiar}"))
        return changed

    async def _pull(self, name: Reference, head: Described | None) -> bool:
        digest = name.digest or (head.digest if head is not None else "")
        digested = Reference(name.domain, name.path, "", digest)
        names = [str(digested)] if name.digest else [str(digested), str(name)]
        before = self._named(names[-1])
        if before is not None and self._named(names[0]) == before:
            self._say_from(name)
            self.report(message(f"Digest: {digest}"))
            return False
        described = head if head is not None and head.data is not None else None
        if described is None:
            described = await in_call(lambda: self.repository.manifest(digest))
        document = documents.manifest_or_index(described.data or b"")
        if isinstance(document, Manifest):
            _check_config_type(document)
        self._say_from(name)
        names[0] = str(Reference(name.domain, name.path, "", described.digest))
        image_id = await self._image(document, described.data or b"", names)
        self.report(message(f"Digest: {described.digest}"))
        return before != image_id

    def _say_from(self, name: Reference) -> None:
        what = str(Reference(name.domain, name.path, "", name.digest)) if name.digest else name.tag
        self.report(message(f"Pulling from {self._remote_name(name)}", what))

    def _remote_name(self, name: Reference) -> str:
        # dockerd calls the repository what the registry calls it: library/busybox, and no registry before it.
        return name.path

    def _named(self, name: str) -> str | None:
        """The id of the image for the platform that is called so here."""
        try:
            return self.images.get(name, choice.wanted(self.platform)).intact().id
        except (NotFound, DamagedBlob):
            return None

    # -- one image

    async def _image(self, document: Manifest | Index, data: bytes, names: list[str]) -> str:
        platform = choice.wanted(self.platform)
        if isinstance(document, Manifest):
            return await self._add(document, data, names, b"")
        manifest, own = await self._choose(document, platform, _NESTED_MAX)
        return await self._add(manifest, own, names, data)

    async def _add(self, manifest: Manifest, data: bytes, names: list[str], index: bytes) -> str:
        """Brings what is missing of an image, and gives it its names; its id."""
        image_id = manifest.config.digest
        for media_type in (manifest.config.media_type, *(layer.media_type for layer in manifest.layers)):
            _check_supported(media_type)
        config = self._known_config(image_id)
        known = bool(config)
        try:
            if not known:
                config = await in_call(lambda: self.repository.document(image_id, documents.DOCUMENT_LIMIT))
            bare = Arrival(config)
        except EngineError as error:
            again = isinstance(error, RegistryError) and error.again
            raise ImageConfigError(f"error pulling image configuration: {error}", again=again) from error
        if len(bare.diff_ids) != len(manifest.layers):
            raise RegistryError("layers from manifest don't match image configuration", again=False)
        whole = Arrival(config, data)
        async with self.transfers.staging() as staging:
            for _ in range(_TRIES):
                await self._layers(manifest, bare, staging, quiet=known)
                # Of layers that were here, another archive may be: then this manifest is not kept.
                arrival = bare if self.images.lacks(whole, staging) else whole
                if await self.images.add([arrival], staging, names, index) is not None:
                    break
            else:
                raise RegistryError("layers of the image were removed while it was pulled")
        for layer, diff_id in zip(manifest.layers, bare.diff_ids, strict=True):
            self.sources.add(diff_id, Source(self.name.repository, layer.digest, layer.size))
        return image_id

    def _known_config(self, image_id: str) -> bytes:
        try:
            self.images.get(image_id)
            data = self.images.blob(image_id).read_bytes()
        except (NotFound, OSError):
            return b""
        return data if f"sha256:{hashlib.sha256(data).hexdigest()}" == image_id else b""

    async def _choose(self, index: Index, platform: Platform, deep: int) -> tuple[Manifest, bytes]:
        for descriptor in choice.choose(index, platform):
            described = await in_call(lambda one=descriptor: self.repository.manifest(one.digest))  # type: ignore[misc]
            data = described.data or b""
            document = documents.manifest_or_index(data)
            if isinstance(document, Manifest):
                return document, data
            if deep > 0:
                try:
                    return await self._choose(document, platform, deep - 1)
                except RegistryError as error:
                    log.debug("no image in %s: %s", descriptor.digest, error)
        raise choice.no_match(platform)

    async def _layers(self, manifest: Manifest, arrival: Arrival, staging: Staging, *, quiet: bool) -> None:
        """Brings the layers that are missing. Raises RegistryError, StorageFull."""
        gate = asyncio.Semaphore(DOWNLOADS)
        missing = {arrival.diff_ids[position] for position in self.images.lacks(arrival, staging)}
        joined: dict[str, Transfer] = {}
        try:
            for layer, diff_id in zip(manifest.layers, arrival.diff_ids, strict=True):
                if diff_id in missing and diff_id not in joined:
                    joined[diff_id] = self.transfers.join(staging, self.repository, layer, diff_id, gate, self.report)
                elif diff_id not in missing and not quiet:
                    self.report(action("Already exists", layer.digest.removeprefix("sha256:")[:12]))
            await all_of(transfer.wait() for transfer in joined.values())
        finally:
            await asyncio.gather(*(transfer.leave(self.report) for transfer in joined.values()))


def _check_config_type(manifest: Manifest) -> None:
    found = manifest.config.media_type
    if manifest.media_type == documents.DOCKER_MANIFEST and found not in _CONFIG_TYPES:
        kind = "plugin" if found == "application/vnd.docker.plugin.v1+json" else "unknown"
        raise RegistryError(f'Encountered remote "{found}"({kind}) when fetching', again=False, status=400)


def _check_supported(media_type: str) -> None:
    lowered = media_type.lower()
    if not any(lowered == one or lowered.startswith(f"{one}.") for one in _SUPPORTED):
        raise RegistryError(f"unsupported media type {media_type}", again=False, status=400)
