"""Pushing: an image's layers, its configuration and its manifest go to a registry, what is there already excepted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from coved.errors import EngineError, NotFound
from coved.finishing import all_of, to_the_end
from coved.images import Image, Images, documents, reference
from coved.images.arrivals import Arrival
from coved.images.documents import Descriptor, Platform
from coved.images.reference import Reference
from coved.images.write_archive import SavedManifest
from coved.registry.calls import in_call
from coved.registry.errors import NotAuthorized, Refused, RegistryError
from coved.registry.progress import Message, Meter, Report, action, message
from coved.registry.repository import Repository
from coved.registry.sources import Source, Sources
from coved.registry.transfers import ATTEMPTS, RETRY_S, Transfers
from coved.store.trees import remove_tree

UPLOADS = 5
"""Of one push at the same time, as dockerd does."""
_MOUNTS_MAX = 4


@dataclass
class _Held:
    """What is pushed, in files that stay whatever becomes of the image."""

    image: Image
    manifest: SavedManifest
    folder: Path
    config: bytes

    def path(self, digest: str) -> Path:
        return self.folder / digest.removeprefix("sha256:")


@dataclass
class Push:
    """One name, or all tags of a repository, to one endpoint."""

    images: Images
    sources: Sources
    transfers: Transfers
    repository: Repository
    name: Reference
    report: Report
    platform: Platform | None = None

    async def run(self) -> None:
        """Raises EngineError."""
        if self.name.digest:
            raise EngineError("cannot push a digest reference")
        if self.name.tag:
            await self._push(self.name)
            return
        names = names_of(self.images, self.name)
        if not names:
            raise EngineError(f"no tags to push for {self.name.familiar_repository}")
        for name in names:
            await self._push(name)

    async def _push(self, name: Reference) -> None:
        async with self._held(name) as held:
            manifest = documents.manifest(held.manifest.document)
            await self._layers(name, held, list(zip(manifest.layers, held.manifest.diff_ids, strict=True)))
            await in_call(lambda: self._config(manifest.config, held.config))
            data = held.manifest.document
            await in_call(lambda: self.repository.put_manifest(name.tag, manifest.media_type, data))
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            self.report(message(f"{name.tag}: digest: {digest} size: {len(data)}"))
            async with self.transfers.staging() as staging:
                digested = str(Reference(name.domain, name.path, "", digest))
                # None when the image has been removed meanwhile, and then there is nothing to be called so.
                await self.images.add([Arrival(held.config, data)], staging, [digested])
            self.report({"progressDetail": {}, "aux": {"Tag": name.tag, "Digest": digest, "Size": len(data)}})

    @contextlib.asynccontextmanager
    async def _held(self, name: Reference) -> AsyncIterator[_Held]:
        try:
            image = self.images.get(str(name), self.platform)
        except NotFound as error:
            if self.platform is not None and str(name) in map(str, names_of(self.images, name)):
                raise EngineError(str(error)) from None
            raise EngineError(f"tag does not exist: {name.familiar}") from None
        for diff_id in reversed(image.diff_ids):
            self.report(action("Preparing", _short(diff_id)))
        manifest = await self.images.packed(image)
        folder = self.transfers.spool / f"push-{secrets.token_hex(8)}"
        try:
            # Nothing is awaited before all of it is held: the image may go any time.
            folder.mkdir(mode=0o700, parents=True)
            held = _Held(image, manifest, folder, self.images.blob(image.id).read_bytes())
            for layer in {one.digest for one in documents.manifest(manifest.document).layers}:
                held.path(layer).hardlink_to(self.images.blob(layer))
            yield held
        finally:
            await to_the_end(asyncio.to_thread(remove_tree, folder))

    # -- layers

    async def _layers(self, name: Reference, held: _Held, layers: list[tuple[Descriptor, str]]) -> None:
        gate = asyncio.Semaphore(UPLOADS)
        own: dict[str, tuple[Descriptor, str]] = {}
        for layer, diff_id in reversed(layers):
            own.setdefault(diff_id, (layer, diff_id))
        await all_of(self._layer(held, layer, diff_id, gate) for layer, diff_id in own.values())

    async def _layer(self, held: _Held, layer: Descriptor, diff_id: str, gate: asyncio.Semaphore) -> None:
        identity = _short(diff_id)
        if gate.locked():
            self.report(action("Waiting", identity))
        async with gate:
            mounts = self._mounts(layer, diff_id)
            loop = asyncio.get_running_loop()

            def post(message: Message) -> None:
                loop.call_soon_threadsafe(self.report, message)

            meter = Meter(post, "Pushing", identity, layer.size)
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    done = await in_call(lambda: self._send(layer, held.path(layer.digest), mounts, meter))
                    break
                except RegistryError as error:
                    if isinstance(error, NotAuthorized) and not isinstance(error.__cause__, Refused):
                        raise RegistryError(str(error.__cause__)) from error  # dockerd does not say for which request
                    if not error.again or attempt == ATTEMPTS:
                        raise
                for left in range(attempt * RETRY_S, 0, -1):
                    self.report(action(f"Retrying in {left} second{'s' if left != 1 else ''}", identity))
                    await asyncio.sleep(1)
            self.report(action(done, identity))
            self.sources.add(diff_id, Source(self.name.repository, layer.digest, layer.size))

    def _mounts(self, layer: Descriptor, diff_id: str) -> list[str]:
        """Repositories of the same registry that have had this very blob, the latest first."""
        found = []
        for source in self.sources.of(diff_id):
            name = reference.parse(source.repository)
            if source.digest == layer.digest and name.domain == self.name.domain and name.path != self.name.path:
                found.append(name.path)
        return found[:_MOUNTS_MAX]

    def _send(self, layer: Descriptor, path: Path, mounts: list[str], meter: Meter) -> str:
        """In a thread; gives dockerd's word for what has been done."""
        if self.repository.has_blob(layer.digest) is not None:
            return "Layer already exists"
        location = None
        for source in mounts:
            try:
                location = self.repository.mount(layer.digest, source)
            except RegistryError:
                continue  # whoever may push here may not pull there
            if location is None:
                return f"Mounted from {source}"
        if location is None:
            location = self.repository.start_upload()
        with path.open("rb") as file:
            self.repository.upload(location, file, layer.size, layer.digest, meter)
        return "Pushed"

    def _config(self, descriptor: Descriptor, data: bytes) -> None:
        if self.repository.has_blob(descriptor.digest) is None:
            import io

            file = io.BytesIO(data)
            location = self.repository.start_upload()
            self.repository.upload(location, file, len(data), descriptor.digest, lambda _: None)


def names_of(images: Images, name: Reference) -> list[Reference]:
    """All names with a tag that are of a repository."""
    found = {one for image in images.list() for one in map(reference.parse, image.tags)}
    return sorted((one for one in found if one.repository == name.repository), key=str)


def _short(diff_id: str) -> str:
    return diff_id.removeprefix("sha256:")[:12]
