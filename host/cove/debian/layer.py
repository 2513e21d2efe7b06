"""From what a container's file system is exported as to an image's layer, and from a layer to an image.

The layer is the same bits for the same files: sorted, without what the engine or the clock left behind.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

from cove.debian.releases import AMD64, Port

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHUNK = 1 << 18
_DROPPED = re.compile(
    "|".join(
        (
            # Made by the engine for the container.
            r"\.dockerenv|etc/(?:hostname|hosts|resolv\.conf|mtab)|(?:dev|proc|sys|run/lock|tmp)/.+",
            # Says when it was configured, or is made again when it is needed.
            r"etc/machine-id|var/log/(?:dpkg|alternatives|bootstrap)\.log|var/log/apt/.+|var/cache/ldconfig/aux-cache",
        )
    )
)
_EMPTIED = ("var/cache/apt/", "var/lib/apt/lists/")
"""Folders whose own folders stay: APT wants them, and packages have them."""


@dataclass(frozen=True, slots=True)
class Layer:
    """An uncompressed tar archive. `diff_id` is its SHA-256, hexadecimal; `content` is how many bytes its files have."""

    file: IO[bytes]
    size: int
    diff_id: str
    content: int

    def chunks(self) -> Iterator[bytes]:
        self.file.seek(0)
        while chunk := self.file.read(_CHUNK):
            yield chunk


def as_it_is(file: IO[bytes]) -> Layer:
    """The archive in `file` as a layer."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return Layer(file, file.seek(0, io.SEEK_END), digest, 0)


def normalise(exported: IO[bytes], output: IO[bytes], newest: int) -> Layer:
    """Write the layer of the tar archive `exported` into `output`; no file of it is newer than `newest` (seconds).

    Raises `tarfile.TarError` for what is not an archive.
    """
    exported.seek(0)
    content = 0
    with tarfile.open(fileobj=exported, mode="r:") as source:
        members = {path: member for member in source if (path := _path(member.name)) and _stays(path, member)}
        first: dict[str, str] = {}  # of each hard-linked file, the name that is written first
        with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as target:
            for path in sorted(members, key=lambda path: path.split("/")):
                member = members[path]
                entry = copy.copy(member)
                entry.name, entry.uname, entry.gname = path, "", ""
                entry.mtime = min(int(member.mtime), newest)
                # Capabilities of files; whatever else is there is the engine's own.
                kept = {key: value for key, value in member.pax_headers.items() if key.startswith(_CAPABILITY)}
                entry.pax_headers = kept
                if not (member.isreg() or member.islnk()):
                    entry.size = 0
                    target.addfile(entry)
                    continue
                original = _path(member.linkname) if member.islnk() else path
                if original in first:
                    entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, first[original], 0
                    target.addfile(entry)
                    continue
                first[original] = path
                data = members[original]
                entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", data.size
                content += data.size
                target.addfile(entry, source.extractfile(data))
    made = as_it_is(output)
    return Layer(made.file, made.size, made.diff_id, content)


_CAPABILITY = "SCHILY.xattr.security.capability"


def _stays(path: str, member: tarfile.TarInfo) -> bool:
    return not (_DROPPED.fullmatch(path) or (path.startswith(_EMPTIED) and not member.isdir()))


def _path(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def image(
    layer: Layer, tag: str, config: Mapping[str, Any], created: int, said: str, comment: str = "", port: Port = AMD64
) -> Iterator[bytes]:
    """The archive of an image, as `docker save` writes them. `created` is in seconds; `said` is what made the image."""
    time = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document: dict[str, Any] = {
        "architecture": port.architecture,
        **({"variant": port.variant} if port.variant else {}),
        "os": "linux",
        "created": time,
        "config": {"Env": [PATH], **config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.diff_id}"]},
        "history": [{"created": time, "created_by": said, **({"comment": comment} if comment else {})}],
    }
    described = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    name, path = f"{hashlib.sha256(described).hexdigest()}.json", f"{layer.diff_id}/layer.tar"
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": [path]}]).encode()
    for member, content in (("manifest.json", manifest), (name, described)):
        yield _header(member, len(content)) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
    yield _header(path, layer.size)
    yield from layer.chunks()
    yield bytes(-layer.size % tarfile.BLOCKSIZE) + bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)
