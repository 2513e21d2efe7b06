"""Image archives: what ``docker save`` writes, in its old and its new layout, and OCI image layouts.

The archive is a stream and says last what is in it (manifest.json), so its members are spooled to disk first. Names in
it are only ever keys of a dictionary: spooled files have names of our own.
"""

import hashlib
import json
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coved.images import reference
from coved.images.compression import DecompressedStream, Source
from coved.images.tar import HARD_LINK, REGULAR, SYMBOLIC_LINK, BadArchive, TarReader

DOCUMENT_LIMIT = 8 * 1024 * 1024
_MEMBERS_MAX = 100_000
_LINKS_MAX = 8
_CHUNK = 256 * 1024

_INDEX_TYPES = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)


@dataclass(frozen=True)
class ArchivedLayer:
    """A spooled layer, compressed or not, and what it must be when it is unpacked."""

    path: Path
    diff_id: str


@dataclass(frozen=True)
class ArchivedImage:
    """``config`` is the configuration's bytes as they are in the archive; ``names`` are canonical."""

    id: str
    config: bytes
    layers: list[ArchivedLayer]
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Member:
    path: Path
    digest: str


class Archive:
    """A spooled archive. ``directory`` is an empty one of the caller, who removes it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._members: dict[str, _Member] = {}
        self._links: dict[str, str] = {}

    def spool(self, source: Source) -> None:
        """Reads the whole archive; raises ``BadArchive``."""
        stream = DecompressedStream(source)
        archive = TarReader(stream)
        for count, entry in enumerate(archive):
            if count >= _MEMBERS_MAX:
                raise BadArchive(f"the image archive has more than {_MEMBERS_MAX} members")
            name = _key(entry.name)
            if entry.type == REGULAR:
                digest = hashlib.sha256()
                path = self._directory / str(count)
                with path.open("xb") as file:
                    while data := archive.read(_CHUNK):
                        digest.update(data)
                        file.write(data)
                self._members[name] = _Member(path, f"sha256:{digest.hexdigest()}")
                self._links.pop(name, None)
            elif entry.type == SYMBOLIC_LINK:
                # Old `docker save` links a layer that several images have.
                self._links[name] = _key(posixpath.join(posixpath.dirname(name), entry.link))
            elif entry.type == HARD_LINK:
                self._links[name] = _key(entry.link)
        # What follows the archive's end is padding; clients want to send it before they listen.
        while stream.read(_CHUNK):
            pass

    def images(self, architecture: str) -> list[ArchivedImage]:
        """What is in the archive.

        Args:
            architecture: Which one to take of an image that is there for several (Go's names: amd64, arm64).
        """
        if self._has("manifest.json"):
            return self._docker_images()
        if self._has("index.json"):
            return self._oci_images(architecture)
        if self._has("repositories"):
            raise BadArchive("this archive has the layout of Docker before 1.10, which is not supported: save it again")
        raise BadArchive("this is no image archive: it has neither manifest.json nor index.json")

    # -- layouts

    def _docker_images(self) -> list[ArchivedImage]:
        manifest = self._json("manifest.json")
        if not isinstance(manifest, list) or not all(isinstance(item, dict) for item in manifest):
            raise BadArchive("manifest.json in the archive is malformed")
        images = []
        for item in manifest:
            names = [_tagged_name(name) for name in _strings(item.get("RepoTags"))]
            config = item.get("Config")
            if not isinstance(config, str):
                raise BadArchive("manifest.json in the archive names no configuration")
            layers = [self._find(name).path for name in _strings(item.get("Layers"))]
            images.append(self._image(self._find(config), layers, names))
        return images

    def _oci_images(self, architecture: str) -> list[ArchivedImage]:
        index = self._json("index.json")
        images: dict[str, ArchivedImage] = {}
        for descriptor in _descriptors(index):
            for manifest in self._manifests(descriptor, architecture):
                config = self._blob(manifest.get("config"))
                layers = [self._blob(layer).path for layer in manifest.get("layers") or []]
                image = self._image(config, layers, _oci_names(descriptor))
                earlier = images.get(image.id)
                if earlier is not None:
                    earlier.names.extend(image.names)
                else:
                    images[image.id] = image
        return list(images.values())

    def _manifests(self, descriptor: dict[str, Any], architecture: str) -> list[dict[str, Any]]:
        document = self._document(self._blob(descriptor))
        if descriptor.get("mediaType") not in _INDEX_TYPES and "manifests" not in document:
            return [document]
        fitting = [child for child in _descriptors(document) if _fits(child, architecture)]
        if not fitting:
            raise BadArchive(f"the archive has no image for linux/{architecture}")
        return [self._document(self._blob(fitting[0]))]

    def _image(self, config: _Member, layers: list[Path], names: list[str]) -> ArchivedImage:
        data = _read(config.path)
        document = parse_config(data)
        diff_ids = document["rootfs"]["diff_ids"]
        if len(diff_ids) != len(layers):
            raise BadArchive(f"the image has {len(layers)} layers, and its configuration says {len(diff_ids)}")
        pairs = [ArchivedLayer(path, diff_id) for path, diff_id in zip(layers, diff_ids, strict=True)]
        return ArchivedImage(config.digest, data, pairs, names)

    # -- members

    def _has(self, name: str) -> bool:
        return name in self._members or name in self._links

    def _find(self, name: str) -> _Member:
        key = _key(name)
        for _ in range(_LINKS_MAX):
            if key in self._members:
                return self._members[key]
            if key not in self._links:
                break
            key = self._links[key]
        raise BadArchive(f"the archive lacks {name!r}")

    def _blob(self, descriptor: object) -> _Member:
        digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
        if not isinstance(digest, str) or not reference.is_digest(digest):
            raise BadArchive("a descriptor in the archive has no sha256 digest")
        member = self._find(f"blobs/sha256/{digest.removeprefix('sha256:')}")
        if member.digest != digest:
            raise BadArchive(f"content verification failed: expected {digest}, got {member.digest}")
        return member

    def _json(self, name: str) -> Any:
        return _parse(_read(self._find(name).path), name)

    def _document(self, member: _Member) -> dict[str, Any]:
        document = _parse(_read(member.path), member.digest)
        if not isinstance(document, dict):
            raise BadArchive(f"{member.digest} in the archive is not a JSON object")
        return document


def parse_config(data: bytes) -> dict[str, Any]:
    """Reads an image's configuration and checks what the engine relies on; raises ``BadArchive``."""
    document = _parse(data, "the image's configuration")
    if not isinstance(document, dict):
        raise BadArchive("the image's configuration is not a JSON object")
    if document.get("os", "linux") != "linux":
        raise BadArchive(f"operating system {document['os']!r} is not supported: Cove runs Linux images")
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if diff_ids is None and isinstance(rootfs, dict):
        diff_ids = rootfs["diff_ids"] = []
    if not isinstance(diff_ids, list) or not all(isinstance(one, str) and reference.is_digest(one) for one in diff_ids):
        raise BadArchive("the image's configuration has no list of layers (rootfs.diff_ids)")
    for key, kind in (("config", dict), ("history", list)):
        if document.get(key) is not None and not isinstance(document[key], kind):
            raise BadArchive(f"{key!r} in the image's configuration is malformed")
    _check_container_config(document.get("config") or {})
    return document


def _check_container_config(config: dict[str, Any]) -> None:
    expected: list[tuple[str, type, Callable[[Any], bool]]] = [
        ("Env", list, lambda items: all(isinstance(item, str) for item in items)),
        ("Cmd", list, lambda items: all(isinstance(item, str) for item in items)),
        ("Entrypoint", list, lambda items: all(isinstance(item, str) for item in items)),
        ("Labels", dict, lambda items: all(isinstance(item, str) for item in items.values())),
        ("Volumes", dict, lambda _: True),
        ("ExposedPorts", dict, lambda _: True),
        ("User", str, lambda _: True),
        ("WorkingDir", str, lambda _: True),
    ]
    for key, kind, acceptable in expected:
        value = config.get(key)
        if value is not None and not (isinstance(value, kind) and acceptable(value)):
            raise BadArchive(f"{key!r} in the image's configuration is malformed")


def _key(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(DOCUMENT_LIMIT + 1)
    if len(data) > DOCUMENT_LIMIT:
        raise BadArchive(f"a JSON document in the archive is larger than {DOCUMENT_LIMIT} bytes")
    return data


def _parse(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadArchive(f"{what} in the archive is not JSON: {error}") from None


def _strings(value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadArchive("manifest.json in the archive is malformed")
    return value


def _descriptors(index: object) -> list[dict[str, Any]]:
    manifests = index.get("manifests") if isinstance(index, dict) else None
    if not isinstance(manifests, list) or not all(isinstance(item, dict) for item in manifests):
        raise BadArchive("an index in the archive is malformed")
    return manifests


def _fits(descriptor: dict[str, Any], architecture: str) -> bool:
    platform = descriptor.get("platform")
    return isinstance(platform, dict) and (platform.get("os"), platform.get("architecture")) == ("linux", architecture)


def _oci_names(descriptor: dict[str, Any]) -> list[str]:
    """The image's name: containerd's annotation is whole, the specification's own may be a tag alone."""
    annotations = descriptor.get("annotations")
    if not isinstance(annotations, dict):
        return []
    for key in ("io.containerd.image.name", "org.opencontainers.image.ref.name"):
        name = annotations.get(key)
        if isinstance(name, str) and ("/" in name or ":" in name):
            return [_tagged_name(name)]
    return []


def _tagged_name(name: str) -> str:
    parsed = reference.parse(name)
    if parsed.digest:
        raise BadArchive(f"the archive names an image by digest ({name}), a tag is needed")
    return str(parsed.tagged())
