"""Reads image archives: what ``docker save`` writes, in its old and its new layout, and OCI image layouts.

The archive is a stream and says last what is in it (manifest.json), so its members are spooled to disk first. Names in
it are only ever keys of a dictionary: spooled files have names of our own.
"""

import hashlib
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from coved.errors import NotFound
from coved.images import documents, platforms, reference
from coved.images.compression import DecompressedStream, Source, media_type
from coved.images.documents import DOCUMENT_LIMIT, Descriptor, Index, Manifest, Platform
from coved.images.tar import HARD_LINK, REGULAR, SYMBOLIC_LINK, BadArchive, TarReader

_MEMBERS_MAX = 100_000
_LINKS_MAX = 8
_NAMES_MAX = 1000
HELD_MAX = 64 << 20
"""Bytes of documents and names that are kept in memory of one archive."""
_CHUNK = 256 * 1024
_HEAD = 16
"""Bytes of a file that tell how it is compressed, and more."""


@dataclass(frozen=True)
class ArchivedLayer:
    """A spooled layer, compressed or not, the digest of that file, and what it must be when it is unpacked."""

    path: Path
    digest: str
    diff_id: str


@dataclass(frozen=True)
class ArchivedImage:
    """``config`` and ``manifest`` are bytes as they are in the archive. ``manifest`` is b"" when there is none, as in old
    archives, or when it names layers that are not kept as they are in the archive."""

    id: str
    config: bytes
    platform: Platform
    layers: tuple[ArchivedLayer, ...]
    manifest: bytes = b""


@dataclass
class ArchivedGroup:
    """Images, one for each platform, that have the same canonical ``names``, and the document that names them all, or b""."""

    images: list[ArchivedImage]
    names: list[str]
    index: bytes = b""


@dataclass(frozen=True)
class _Member:
    path: Path
    digest: str


class Archive:
    """A spooled archive.

    Args:
        directory: an empty one of the caller, who removes it.
        arrived: told of each file and its digest as soon as it is whole.
    """

    def __init__(self, directory: Path, arrived: Callable[[Path, str], None]) -> None:
        self._directory = directory
        self._arrived = arrived
        self._members: dict[str, _Member] = {}
        self._links: dict[str, str] = {}
        self._images: dict[tuple[str, bytes], ArchivedImage] = {}
        self._held = 0

    def spool(self, source: Source) -> None:
        """Reads the whole archive; raises ``BadArchive``."""
        stream = DecompressedStream(source)
        archive = TarReader(stream)
        for count, entry in enumerate(archive):
            if count >= _MEMBERS_MAX:
                raise BadArchive(f"the image archive has more than {_MEMBERS_MAX} members")
            name = _key(entry.name)
            self._hold(len(name) + len(entry.link))
            if entry.type == REGULAR:
                digest = hashlib.sha256()
                path = self._directory / str(count)
                with path.open("xb") as file:
                    while data := archive.read(_CHUNK):
                        digest.update(data)
                        file.write(data)
                member = self._members[name] = _Member(path, f"sha256:{digest.hexdigest()}")
                self._arrived(member.path, member.digest)
                self._links.pop(name, None)
            elif entry.type == SYMBOLIC_LINK:
                # Old `docker save` links a layer that several images have.
                self._links[name] = _key(posixpath.join(posixpath.dirname(name), entry.link))
            elif entry.type == HARD_LINK:
                self._links[name] = _key(entry.link)
        # What follows the archive's end is padding; clients want to send it before they listen.
        while stream.read(_CHUNK):
            pass

    def images(self, platform: Platform | None = None) -> list[ArchivedGroup]:
        """What is in the archive. One that is written in both layouts is read in both: only the OCI one has manifests, and
        what it calls an image may be less than the other knows.

        Args:
            platform: the only one to take; without it all that are there are taken.
        """
        groups: list[ArchivedGroup] = []
        if self._has("index.json"):
            for descriptor in documents.index(self._read("index.json")).manifests:
                _add_group(groups, self._oci_group(descriptor))
        if self._has("manifest.json"):
            for saved in documents.saved_images(self._read("manifest.json")):
                names = [_tagged_name(name) for name in saved.names]
                layers = [self._find(name) for name in saved.layers]
                image = self._image(self._find(saved.config), layers)
                _add_group(groups, ArchivedGroup([image], names))
        names_count = sum(len(group.names) for group in groups)
        if names_count > _NAMES_MAX:
            raise BadArchive(f"the archive has {names_count} names of images, and {_NAMES_MAX} are taken at most")
        if not groups and not self._has("manifest.json"):
            if self._has("repositories"):
                raise BadArchive(
                    "this archive has the layout of Docker before 1.10, which is not supported: save it again"
                )
            if not self._has("index.json"):
                raise BadArchive("this is no image archive: it has neither manifest.json nor index.json")
        if platform is None:
            return groups
        wanted = [ArchivedGroup(_for(group.images, platform), group.names, group.index) for group in groups]
        if groups and not any(group.images for group in wanted):
            there = ", ".join(sorted({str(image.platform) for group in groups for image in group.images}))
            raise NotFound(f"the archive has no image for the platform {platform}, but for {there}")
        return [group for group in wanted if group.images]

    # -- layouts

    def _oci_group(self, descriptor: Descriptor) -> ArchivedGroup:
        data = _read(self._blob(descriptor).path)
        top = documents.manifest_or_index(data)
        names = _oci_names(descriptor)
        if isinstance(top, Manifest):
            return ArchivedGroup([self._oci_image(top, data)], names)
        self._hold(len(data))
        images: dict[str, ArchivedImage] = {}
        for manifest, document in self._children(top, _LINKS_MAX, set()):
            if all(self._has(_blob_name(one.digest)) for one in (manifest.config, *manifest.layers)):
                image = self._oci_image(manifest, document)
                images.setdefault(image.id, image)
        if not images:
            raise BadArchive("an index in the archive names no image that is in it")
        return ArchivedGroup([*images.values()], names, data)

    def _children(self, index: Index, depth: int, seen: set[str]) -> Iterator[tuple[Manifest, bytes]]:
        """Manifests of images, each once; archives hold of an index what whoever wrote them had of it."""
        if not depth:
            raise BadArchive("the indexes in the archive are nested too deeply")
        for child in index.manifests:
            if child.digest in seen or not self._has(_blob_name(child.digest)) or not _is_image(child):
                continue
            seen.add(child.digest)
            data = _read(self._blob(child).path)
            document = documents.manifest_or_index(data)
            if isinstance(document, Index):
                yield from self._children(document, depth - 1, seen)
            else:
                yield document, data

    def _oci_image(self, manifest: Manifest, data: bytes) -> ArchivedImage:
        return self._image(self._blob(manifest.config), [self._blob(layer) for layer in manifest.layers], data)

    def _image(self, config: _Member, layers: list[_Member], manifest: bytes = b"") -> ArchivedImage:
        key = (config.digest, manifest)
        if manifest and key in self._images:
            return self._images[key]
        data = _read(config.path)
        self._hold(len(data) + len(manifest))
        parsed = documents.config(data)
        if len(parsed.diff_ids) != len(layers):
            raise BadArchive(f"the image has {len(layers)} layers, and its configuration says {len(parsed.diff_ids)}")
        archived = tuple(
            ArchivedLayer(one.path, one.digest, diff_id) for one, diff_id in zip(layers, parsed.diff_ids, strict=True)
        )
        if not all(_has_media_type(one.path) for one in layers):
            manifest = b""
        image = self._images[key] = ArchivedImage(config.digest, data, parsed.platform, archived, manifest)
        return image

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > HELD_MAX:
            raise BadArchive(f"documents and names in the archive take more than {HELD_MAX} bytes")

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
        member = self._find(_blob_name(descriptor.digest))
        if member.digest != descriptor.digest:
            raise BadArchive(f"content verification failed: expected {descriptor.digest}, got {member.digest}")
        return member

    def _read(self, name: str) -> bytes:
        return _read(self._find(name).path)


def _add_group(groups: list[ArchivedGroup], group: ArchivedGroup) -> None:
    """The names of one image are together, however often an archive lists it."""
    ids = {image.id for image in group.images}
    for known in groups:
        if ids == {image.id for image in known.images} or (not group.index and ids <= {one.id for one in known.images}):
            known.names = [*dict.fromkeys([*known.names, *group.names])]
            return
    groups.append(group)


def _for(images: list[ArchivedImage], wanted: Platform) -> list[ArchivedImage]:
    """Those that suit the platform best."""
    ranks = [platforms.rank(one.platform, wanted) for one in images]
    best = min((rank for rank in ranks if rank is not None), default=None)
    return [one for one, rank in zip(images, ranks, strict=True) if rank is not None and rank == best]


def _is_image(descriptor: Descriptor) -> bool:
    """Builders put attestations beside their images, for a platform "unknown"; and images of other systems are not for here."""
    return descriptor.platform is None or descriptor.platform.os in ("", "linux")


def _has_media_type(layer: Path) -> bool:
    """Others, such as xz, are kept plain, under another digest than a manifest calls them."""
    with layer.open("rb") as file:
        return bool(media_type(file.read(_HEAD)))


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


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
