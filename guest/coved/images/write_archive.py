"""Writes image archives: an OCI image layout that is docker's old layout as well, as ``docker save`` since 25 has it.

Layers are in it as they came, so that digests are the same wherever the archive is loaded.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tarfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coved.errors import EngineError
from coved.finishing import to_the_end
from coved.images import documents, reference
from coved.images.documents import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, Platform
from coved.images.layers import Blob
from coved.store.blobs import DamagedBlob
from coved.store.trees import remove_tree

_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class SavedManifest:
    """An image and its manifest, either the one that it came with or one made up for it."""

    image_id: str
    document: bytes
    platform: Platform
    diff_ids: tuple[str, ...]

    @property
    def digest(self) -> str:
        return _digest(self.document)

    def blobs(self) -> list[str]:
        """Digests of the configuration and the layers."""
        return [self.image_id, *(layer.digest for layer in documents.manifest(self.document).layers)]

    def descriptor(self) -> Descriptor:
        kind = documents.manifest(self.document).media_type
        return Descriptor(kind, self.digest, len(self.document), {}, self.platform)


@dataclass
class Group:
    """Images, one for each platform, with their canonical names; ``index`` is the one that they came with, or b""."""

    images: list[SavedManifest]
    names: list[str] = field(default_factory=list)
    index: bytes = b""


def make_manifest(image_id: str, config_size: int, layers: Iterable[Blob]) -> bytes:
    """A manifest for an image that came without one: the same bytes each time for the same layers."""
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor(OCI_CONFIG, image_id, config_size).to_json(),
            "layers": [Descriptor(one.media_type, one.digest, one.size).to_json() for one in layers],
        }
    )


def make_index(images: Iterable[SavedManifest]) -> bytes:
    """An index of manifests that came without one."""
    manifests = [image.descriptor().to_json() for image in images]
    return _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})


def documents_of(groups: Iterable[Group]) -> dict[str, bytes]:
    """The files at an archive's top, and all documents of the layout, by their names in the archive."""
    blobs: dict[str, bytes] = {}
    top: list[dict[str, Any]] = []
    saved: dict[str, dict[str, Any]] = {}
    repositories: dict[str, dict[str, str]] = {}
    for group in groups:
        for image in group.images:
            blobs[image.digest] = image.document
            item = saved.setdefault(image.image_id, _saved(image))
            item["RepoTags"] += [name for name in map(_familiar, group.names) if name not in item["RepoTags"]]
        descriptor = group.images[0].descriptor()
        if group.index or len(group.images) > 1:
            index = group.index or make_index(group.images)
            digest = _digest(index)
            blobs[digest] = index
            descriptor = Descriptor(documents.index(index).media_type, digest, len(index))
        for name in group.names or [""]:
            top.append({**descriptor.to_json(), **_annotations(name)})
        for name in group.names:
            parsed = reference.parse(name)
            last = documents.manifest(group.images[0].document).layers[-1:]
            if parsed.tag and last:
                repository = repositories.setdefault(parsed.familiar_repository, {})
                repository[parsed.tag] = last[0].digest.removeprefix("sha256:")
    files = {_place(digest): document for digest, document in sorted(blobs.items())}
    files["index.json"] = _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": top})
    # Programs that know only the old layout give a name to the last image that has it: that should be the first platform's.
    files["manifest.json"] = _json(
        [{**item, "RepoTags": item["RepoTags"] or None} for item in reversed(saved.values())]
    )
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    if repositories:
        files["repositories"] = _json(repositories)
    return files


async def archive(files: dict[str, bytes], blobs: dict[str, Path]) -> AsyncIterator[bytes]:
    """The archive, in pieces of at most 1 MiB; ``blobs`` are files, by their digests, and are verified as they are read.

    Raises ``DamagedBlob``, by which the archive stays without an end.
    """
    for folder in ("blobs/", "blobs/sha256/"):
        yield _header(folder, 0)
    for digest, path in blobs.items():
        async for piece in _file(_place(digest), path, digest):
            yield piece
    for name, data in files.items():
        yield _header(name, len(data)) + data + bytes(-len(data) % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


class HeldArchive:
    """An archive on its way out, and the ``folder`` with its files, which goes with it."""

    def __init__(self, pieces: AsyncIterator[bytes], folder: Path) -> None:
        self._pieces = pieces
        self._folder = folder

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        await self._pieces.aclose()  # type: ignore[attr-defined]
        await to_the_end(asyncio.to_thread(remove_tree, self._folder))


async def _file(name: str, path: Path, digest: str) -> AsyncIterator[bytes]:
    computed = hashlib.sha256()
    with await asyncio.to_thread(path.open, "rb") as file:
        size = os.fstat(file.fileno()).st_size

        def read() -> bytes:
            data = file.read(_CHUNK)
            computed.update(data)
            return data

        yield _header(name, size)
        left = size
        while data := await asyncio.to_thread(read):
            left -= len(data)
            if left < 0:
                break
            yield data
    if left or f"sha256:{computed.hexdigest()}" != digest:
        raise DamagedBlob(f"blob {digest} in the engine's store is damaged")
    if padding := -size % tarfile.BLOCKSIZE:
        yield bytes(padding)


def _saved(image: SavedManifest) -> dict[str, Any]:
    manifest: Manifest = documents.manifest(image.document)
    if len(manifest.layers) != len(image.diff_ids):
        raise EngineError(f"the manifest of image {image.image_id} does not belong to it")
    sources = {
        diff_id: Descriptor(layer.media_type, layer.digest, layer.size).to_json()
        for diff_id, layer in zip(image.diff_ids, manifest.layers, strict=True)
    }
    return {
        "Config": _place(image.image_id),
        "RepoTags": [],
        "Layers": [_place(layer.digest) for layer in manifest.layers],
        "LayerSources": sources,
    }


def _annotations(name: str) -> dict[str, Any]:
    if not name:
        return {}
    return {
        "annotations": {
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": reference.parse(name).tag,
        }
    }


def _familiar(name: str) -> str:
    return reference.parse(name).familiar


def _place(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name.rstrip("/"))
    info.size, info.mtime = size, 0
    info.type, info.mode = (tarfile.DIRTYPE, 0o755) if name.endswith("/") else (tarfile.REGTYPE, 0o644)
    return info.tobuf(tarfile.PAX_FORMAT if size >= 8**11 else tarfile.USTAR_FORMAT)
