"""Image archives: what ``docker save`` writes, in its old and its new layout, and OCI image layouts.

The archive is a stream and says last what is in it (manifest.json), so its members are spooled to disk first. Names in
it are only ever keys of a dictionary: spooled files have names of our own.
"""

import hashlib
import posixpath
from dataclasses import dataclass, field
from pathlib import Path

from coved.images import documents, reference
from coved.images.compression import DecompressedStream, Source
from coved.images.documents import DOCUMENT_LIMIT, Descriptor, Manifest, Platform
from coved.images.tar import HARD_LINK, REGULAR, SYMBOLIC_LINK, BadArchive, TarReader

_MEMBERS_MAX = 100_000
_LINKS_MAX = 8
_CHUNK = 256 * 1024


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
        images = []
        for saved in documents.saved_images(self._read("manifest.json")):
            names = [_tagged_name(name) for name in saved.names]
            layers = [self._find(name).path for name in saved.layers]
            images.append(self._image(self._find(saved.config), layers, names))
        return images

    def _oci_images(self, architecture: str) -> list[ArchivedImage]:
        images: dict[str, ArchivedImage] = {}
        for descriptor in documents.index(self._read("index.json")).manifests:
            manifest = self._manifest(descriptor, Platform("linux", architecture))
            layers = [self._blob(layer).path for layer in manifest.layers]
            image = self._image(self._blob(manifest.config), layers, _oci_names(descriptor))
            earlier = images.get(image.id)
            if earlier is not None:
                earlier.names.extend(image.names)
            else:
                images[image.id] = image
        return list(images.values())

    def _manifest(self, descriptor: Descriptor, platform: Platform) -> Manifest:
        for _ in range(_LINKS_MAX):
            document = documents.manifest_or_index(_read(self._blob(descriptor).path))
            if isinstance(document, Manifest):
                return document
            fitting = next(documents.fitting(document, platform), None)
            if fitting is None:
                raise BadArchive(f"the archive has no image for {platform}")
            descriptor = fitting
        raise BadArchive("the indexes in the archive are nested too deeply")

    def _image(self, config: _Member, layers: list[Path], names: list[str]) -> ArchivedImage:
        data = _read(config.path)
        diff_ids = documents.config(data).diff_ids
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

    def _blob(self, descriptor: Descriptor) -> _Member:
        member = self._find(f"blobs/sha256/{descriptor.digest.removeprefix('sha256:')}")
        if member.digest != descriptor.digest:
            raise BadArchive(f"content verification failed: expected {descriptor.digest}, got {member.digest}")
        return member

    def _read(self, name: str) -> bytes:
        return _read(self._find(name).path)


def _key(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(DOCUMENT_LIMIT + 1)
    if len(data) > DOCUMENT_LIMIT:
        raise BadArchive(f"a JSON document in the archive is larger than {DOCUMENT_LIMIT} bytes")
    return data


def _oci_names(descriptor: Descriptor) -> list[str]:
    """The image's name: containerd's annotation is whole, the specification's own may be a tag alone."""
    for key in ("io.containerd.image.name", "org.opencontainers.image.ref.name"):
        name = descriptor.annotations.get(key, "")
        if "/" in name or ":" in name:
            return [_tagged_name(name)]
    return []


def _tagged_name(name: str) -> str:
    parsed = reference.parse(name)
    if parsed.digest:
        raise BadArchive(f"the archive names an image by digest ({name}), a tag is needed")
    return str(parsed.tagged())
