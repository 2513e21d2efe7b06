"""The JSON documents that describe images, read from bytes that anyone may have written, into typed objects.

Manifests, indexes and configurations (OCI image spec 1.1: manifest.md, image-index.md, config.md; Docker's image manifest
version 2, schema 2), and ``manifest.json`` of ``docker save``. Every reader raises ``BadDocument``, and nothing else, for
what is not right; what it gives back has the types that it says. A null is as good as a key that is not there, as it is
to Go's programs, which write these documents. Keys that the engine does not know stay in ``Config.document``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from coved.errors import InvalidParameter
from coved.images import reference

DOCUMENT_LIMIT = 4 * 1024 * 1024
"""Bytes; what registries take for a manifest (OCI distribution spec, "Pushing Manifests")."""
_VALUES_MAX = 200_000
"""Values in a document: ``[[],[],...`` takes twenty times as much memory as it has bytes."""
_DEPTH_MAX = 64
LAYERS_MAX = 500
"""overlayfs takes no more (OVL_MAX_STACK)."""
_INDEX_MAX = 1000
_SIZE_MAX = 1 << 62

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})


class BadDocument(InvalidParameter):
    """A document is not what it should be; the message says what and where."""


@dataclass(frozen=True)
class Platform:
    """In Go's names (linux, amd64); "" where the document says nothing."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True)
class Descriptor:
    """Points to a blob: ``digest`` is ``sha256:`` and 64 digits, ``size`` in bytes and not negative."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    urls: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            fields["annotations"] = self.annotations
        if self.platform is not None:
            names = ("architecture", "os", "variant")
            fields["platform"] = {name: getattr(self.platform, name) for name in names if getattr(self.platform, name)}
        return fields


@dataclass(frozen=True)
class Manifest:
    """One image for one platform; ``layers`` are lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str]


@dataclass(frozen=True)
class Index:
    """Several manifests, or further indexes."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: dict[str, str]


@dataclass(frozen=True)
class Config:
    """An image's configuration. ``document`` is the whole of it, checked; ``diff_ids`` are lowest first."""

    document: dict[str, Any]
    platform: Platform
    diff_ids: tuple[str, ...]


@dataclass(frozen=True)
class SavedImage:
    """An element of ``manifest.json``: names of the archive's members, and the image's names as they are there."""

    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...]


def manifest_or_index(data: bytes) -> Manifest | Index:
    """Reads a document that says itself which of the two it is."""
    what = "invalid image manifest"
    document = _load(data, what)
    # One that is both would be one image to one program and another to the next (CVE-2021-41190).
    if document.has("manifests") and (document.has("layers") or document.has("config")):
        raise BadDocument(f"{what}: it is an index and a manifest at once")
    return _index(document) if document.has("manifests") else _manifest(document)


def manifest(data: bytes) -> Manifest:
    found = manifest_or_index(data)
    if not isinstance(found, Manifest):
        raise BadDocument("invalid image manifest: it is an index")
    return found


def index(data: bytes) -> Index:
    found = manifest_or_index(data)
    if not isinstance(found, Index):
        raise BadDocument("invalid image index: it has no manifests")
    return found


def config(data: bytes) -> Config:
    """Reads an image's configuration; one for another system than Linux is refused."""
    document = _load(data, "invalid image config")
    for key in (
        "architecture", "os", "variant", "os.version", "created", "author", "comment", "docker_version", "container",
        "parent", "id",
    ):  # fmt: skip
        document.text(key)
    document.texts("os.features")
    system = document.text("os") or "linux"
    if system != "linux":
        raise BadDocument(f"operating system {system!r} is not supported: Cove runs Linux images")
    rootfs = document.object("rootfs")
    if rootfs is None:
        raise document.wrong("rootfs", "an object")
    if (rootfs.text("type") or "layers") != "layers":
        raise rootfs.wrong("type", '"layers"')
    diff_ids = rootfs.texts("diff_ids")
    if not all(reference.is_digest(one) for one in diff_ids):
        raise rootfs.wrong("diff_ids", "a list of sha256 digests")
    if len(diff_ids) > LAYERS_MAX:
        raise BadDocument(f"the image has {len(diff_ids)} layers, and a container's file system takes {LAYERS_MAX}")
    for entry in document.objects("history"):
        for key in ("created", "created_by", "author", "comment"):
            entry.text(key)
        entry.flag("empty_layer")
    document.object("container_config")
    container = document.object("config")
    if container is not None:
        _check_container(container)
    platform = Platform(system, document.text("architecture"), document.text("variant"))
    return Config(document.fields, platform, tuple(diff_ids))


def saved_images(data: bytes) -> list[SavedImage]:
    """Reads ``manifest.json`` of an archive."""
    what = "invalid manifest.json in the archive"
    items = _json(data, what)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BadDocument(f"{what}: it must be a list of objects")
    if len(items) > _INDEX_MAX:
        raise BadDocument(f"{what}: it has more than {_INDEX_MAX} images")
    images = []
    for item in items:
        fields = _Object(item, what, "")
        name = fields.text("Config")
        if not name:
            raise BadDocument(f"{what}: it names no configuration")
        if len(fields.texts("RepoTags")) > _INDEX_MAX:
            raise fields.wrong("RepoTags", f"no more than {_INDEX_MAX} names")
        images.append(SavedImage(name, tuple(fields.texts("Layers")), tuple(fields.texts("RepoTags"))))
    return images


def platform(text: str) -> Platform:
    """Reads the parameter ``platform`` of API requests, a JSON object; raises ``BadDocument``."""
    fields = _load(text.encode(errors="surrogatepass"), "failed to parse platform")
    found = _platform(fields)
    if not found.os or not found.architecture:
        raise BadDocument("failed to parse platform: both os and architecture must be set")
    return found


# -- parts


def _index(document: _Object) -> Index:
    media_type = _media_type(document, OCI_INDEX, INDEX_TYPES)
    items = document.objects("manifests")
    if len(items) > _INDEX_MAX:
        raise BadDocument(f"{document.what}: it has more than {_INDEX_MAX} manifests")
    return Index(media_type, tuple(map(_descriptor, items)), document.text_map("annotations"))


def _manifest(document: _Object) -> Manifest:
    if document.integer("schemaVersion") == 1:
        raise BadDocument("Docker's image format of before 1.10 (schema 1) is not supported: push the image again")
    media_type = _media_type(document, OCI_MANIFEST, MANIFEST_TYPES)
    pointer = document.object("config")
    if pointer is None:
        raise document.wrong("config", "an object")
    layers = document.objects("layers")
    if len(layers) > LAYERS_MAX:
        raise BadDocument(f"the image has {len(layers)} layers, and a container's file system takes {LAYERS_MAX}")
    return Manifest(media_type, _descriptor(pointer), tuple(map(_descriptor, layers)), document.text_map("annotations"))


def _media_type(document: _Object, default: str, accepted: frozenset[str]) -> str:
    if document.integer("schemaVersion") != 2:
        raise document.wrong("schemaVersion", "2")
    media_type = document.text("mediaType") or default
    if media_type not in accepted:
        raise BadDocument(f"{document.what}: its media type is {media_type!r}, and its content another's")
    return media_type


def _descriptor(fields: _Object) -> Descriptor:
    digest = fields.text("digest")
    if not reference.is_digest(digest):
        raise fields.wrong("digest", "a sha256 digest")
    size = fields.integer("size")
    if size < 0:
        raise fields.wrong("size", "a number of bytes")
    described = fields.object("platform")
    return Descriptor(
        fields.text("mediaType"),
        digest,
        size,
        fields.text_map("annotations"),
        None if described is None else _platform(described),
        tuple(fields.texts("urls")),
    )


def _platform(fields: _Object) -> Platform:
    return Platform(fields.text("os"), fields.text("architecture"), fields.text("variant"))


def _check_container(fields: _Object) -> None:
    """The part of a configuration that containers take over (config.md, and Docker's own additions to it)."""
    for key in ("User", "WorkingDir", "StopSignal", "Hostname", "Domainname", "Image", "MacAddress"):
        fields.text(key)
    for key in ("Env", "Cmd", "Entrypoint", "Shell", "OnBuild"):
        if any("\0" in one for one in fields.texts(key)):
            raise fields.wrong(key, "a list of strings without NUL characters")
    for key in ("User", "WorkingDir"):
        if "\0" in fields.text(key):
            raise fields.wrong(key, "a string without NUL characters")
    for key in (
        "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "ArgsEscaped", "NetworkDisabled",
    ):  # fmt: skip
        fields.flag(key)
    fields.integer("StopTimeout")
    fields.text_map("Labels")
    for key in ("Volumes", "ExposedPorts"):
        fields.object_map(key)
    check = fields.object("Healthcheck")
    if check is not None:
        check.texts("Test")
        for key in ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"):
            if check.integer(key) < 0:
                raise check.wrong(key, "a number that is not negative")


# -- JSON


class _Object:
    """A JSON object of the document ``what``, found at ``path`` in it; each getter checks what it gives."""

    def __init__(self, fields: dict[str, Any], what: str, path: str) -> None:
        self.fields = fields
        self.what = what
        self._path = path

    def has(self, key: str) -> bool:
        return self.fields.get(key) is not None

    def wrong(self, key: str, expected: str) -> BadDocument:
        return BadDocument(f"{self.what}: {self._path}{key} must be {expected}")

    def text(self, key: str) -> str:
        """Empty when it is not there."""
        value = self.fields.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def integer(self, key: str) -> int:
        """0 when it is not there."""
        value = self.fields.get(key)
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or not -_SIZE_MAX < value < _SIZE_MAX:
            raise self.wrong(key, "an integer")
        return value

    def flag(self, key: str) -> bool:
        value = self.fields.get(key)
        if not isinstance(value, bool | None):
            raise self.wrong(key, "true or false")
        return bool(value)

    def texts(self, key: str) -> list[str]:
        value = self.fields.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.wrong(key, "a list of strings")
        return value

    def text_map(self, key: str) -> dict[str, str]:
        value = self.fields.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise self.wrong(key, "an object with strings")
        return value

    def object_map(self, key: str) -> None:
        """Go's ``map[string]struct{}``: what the objects hold is of no interest."""
        value = self.fields.get(key)
        if value is not None and not (
            isinstance(value, dict) and all(isinstance(one, dict | None) for one in value.values())
        ):
            raise self.wrong(key, "an object with objects")

    def object(self, key: str) -> _Object | None:
        value = self.fields.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return _Object(value, self.what, f"{self._path}{key}.")

    def objects(self, key: str) -> list[_Object]:
        value = self.fields.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.wrong(key, "a list of objects")
        return [_Object(one, self.what, f"{self._path}{key}[{number}].") for number, one in enumerate(value)]


def _load(data: bytes, what: str) -> _Object:
    document = _json(data, what)
    if not isinstance(document, dict):
        raise BadDocument(f"{what}: it must be a JSON object")
    return _Object(document, what, "")


def _json(data: bytes, what: str) -> Any:
    if len(data) > DOCUMENT_LIMIT:
        raise BadDocument(f"{what}: it is larger than {DOCUMENT_LIMIT} bytes")
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > _VALUES_MAX:
        raise BadDocument(f"{what}: it has more than {_VALUES_MAX} values")
    try:
        document = json.loads(data.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise BadDocument(f"{what}: it is nested too deeply") from None
    except ValueError as error:
        raise BadDocument(f"{what}: it is not JSON: {error}") from None
    _check_values(document, what)
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check_values(document: object, what: str) -> None:
    level: list[object] = [document]
    for _ in range(_DEPTH_MAX):
        below: list[object] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value, what)
            elif isinstance(value, dict):
                for key in value:
                    _check_text(key, what)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return
        level = below
    raise BadDocument(f"{what}: it is nested too deeply")


def _check_text(text: str, what: str) -> None:
    """JSON can write half of a surrogate pair, which no file, no argument and no answer can."""
    if not text.isascii() and any("\ud800" <= one <= "\udfff" for one in text):
        raise BadDocument(f"{what}: a string in it is no Unicode")
