"""Pulling: from a name to an image with all its layers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from coved.errors import EngineError, NotFound
from coved.images import Images, documents
from coved.images.documents import Index, Manifest, Platform
from coved.images.reference import Reference
from coved.registry import choice
from coved.registry.calls import in_call
from coved.registry.errors import RegistryError
from coved.registry.progress import Report, action, message
from coved.registry.repository import Described, Repository
from coved.registry.sources import Source, Sources
from coved.registry.transfers import Transfer, Transfers

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
        known = self.images.named(str(digested))
        if known is not None and self._fits(known):
            self._say_from(name)
        else:
            described = head if head is not None and head.data is not None else None
            if described is None:
                described = await in_call(lambda: self.repository.manifest(digest))
            digest = described.digest
            digested = Reference(name.domain, name.path, "", digest)
            document = documents.manifest_or_index(described.data or b"")
            if isinstance(document, Manifest):
                _check_config_type(document)
            self._say_from(name)
            known = await self._image(document, digested)
        self.report(message(f"Digest: {digest}"))
        names = [str(digested)] if name.digest else [str(digested), str(name)]
        changed = self.images.named(names[-1]) != known
        if not await self.images.name_pulled(known, names):
            raise RegistryError("the image was removed while it was pulled")
        return changed

    def _say_from(self, name: Reference) -> None:
        what = str(Reference(name.domain, name.path, "", name.digest)) if name.digest else name.tag
        self.report(message(f"Pulling from {self._remote_name(name)}", what))

    def _remote_name(self, name: Reference) -> str:
        # dockerd calls the repository what the registry calls it: library/busybox, and no registry before it.
        return name.path

    def _fits(self, image_id: str) -> bool:
        """Whether an image that is here already is the one of an index that was asked for."""
        image = self.images.get(image_id)
        wanted = choice.wanted(self.platform)
        return (image.config.get("os") or "linux", image.config.get("architecture")) == (
            wanted.os, wanted.architecture,
        ) and wanted.variant in ("", image.config.get("variant") or "")  # fmt: skip

    # -- one image

    async def _image(self, document: Manifest | Index, digested: Reference) -> str:
        platform = choice.wanted(self.platform)
        manifest = document if isinstance(document, Manifest) else await self._choose(document, platform, _NESTED_MAX)
        image_id = manifest.config.digest
        if self._has(image_id):
            return image_id
        for media_type in (manifest.config.media_type, *(layer.media_type for layer in manifest.layers)):
            _check_supported(media_type)
        try:
            data = await in_call(lambda: self.repository.document(image_id, documents.DOCUMENT_LIMIT))
            config = documents.config(data)
        except EngineError as error:
            again = isinstance(error, RegistryError) and error.again
            raise ImageConfigError(f"error pulling image configuration: {error}", again=again) from error
        if len(config.diff_ids) != len(manifest.layers):
            raise RegistryError("layers from manifest don't match image configuration", again=False)
        for _ in range(_TRIES):
            if await self._layers(manifest, config.diff_ids, data, digested):
                return image_id
        raise RegistryError("layers of the image were removed while it was pulled")

    def _has(self, image_id: str) -> bool:
        try:
            self.images.get(image_id)
        except NotFound:
            return False
        return True

    async def _choose(self, index: Index, platform: Platform, deep: int) -> Manifest:
        fitting = choice.choose(index, platform)
        for descriptor in fitting:
            described = await in_call(lambda one=descriptor: self.repository.manifest(one.digest))  # type: ignore[misc]
            document = documents.manifest_or_index(described.data or b"")
            if isinstance(document, Manifest):
                return document
            if deep > 0:
                try:
                    return await self._choose(document, platform, deep - 1)
                except RegistryError as error:
                    log.debug("no image in %s: %s", descriptor.digest, error)
        raise choice.no_match(platform)

    async def _layers(self, manifest: Manifest, diff_ids: tuple[str, ...], config: bytes, digested: Reference) -> bool:
        """Brings what is missing, and makes the image; False when a layer that was here went meanwhile."""
        gate = asyncio.Semaphore(DOWNLOADS)
        joined: dict[str, Transfer] = {}
        try:
            for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
                if diff_id in joined:
                    continue
                if self.images.has_layer(diff_id):
                    self.report(action("Already exists", layer.digest.removeprefix("sha256:")[:12]))
                else:
                    joined[diff_id] = self.transfers.join(self.repository, layer, diff_id, gate, self.report)
            await _all(joined)
            stagings = {diff_id: transfer.staging for diff_id, transfer in joined.items()}
            if await self.images.add_pulled(config, stagings, [str(digested)]) is None:
                return False
        finally:
            await asyncio.gather(*(transfer.leave(self.report) for transfer in joined.values()))
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
            self.sources.add(diff_id, Source(digested.repository, layer.digest, layer.size))
        return True


async def _all(transfers: dict[str, Transfer]) -> None:
    """Until all have come; the first that fails is the pull's failure."""
    waits = [asyncio.ensure_future(transfer.wait()) for transfer in transfers.values()]
    try:
        for wait in asyncio.as_completed(waits):
            await wait
    finally:
        for one in waits:
            one.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _check_config_type(manifest: Manifest) -> None:
    found = manifest.config.media_type
    if manifest.media_type == documents.DOCKER_MANIFEST and found not in _CONFIG_TYPES:
        kind = "plugin" if found == "application/vnd.docker.plugin.v1+json" else "unknown"
        raise RegistryError(f'Encountered remote "{found}"({kind}) when fetching', again=False, status=400)


def _check_supported(media_type: str) -> None:
    lowered = media_type.lower()
    if not any(lowered == one or lowered.startswith(f"{one}.") for one in _SUPPORTED):
        raise RegistryError(f"unsupported media type {media_type}", again=False, status=400)
