"""What is in an image that ``docker save`` has written: its configuration, and the files that its layers make."""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TYPES = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}


@dataclass
class Node:
    """One file; names that are hard links to each other share it."""

    attributes: dict[str, Any]
    names: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Image:
    """``files`` by their paths without a leading slash, "" for the root; ``layers`` are the diff IDs."""

    config: dict[str, Any]
    files: dict[str, Node]
    layers: list[str]


def read(archive: Path) -> Image:
    """Raises OSError, tarfile.TarError, KeyError, ValueError (a layer that is not what its digest says)."""
    with tarfile.open(archive) as outer:

        def member(name: str) -> bytes:
            file = outer.extractfile(name)
            assert file is not None, name
            return file.read()

        manifest = json.loads(member("manifest.json"))[0]
        config = json.loads(member(manifest["Config"]))
        files: dict[str, Node] = {}
        diff_ids = config["rootfs"].get("diff_ids") or []
        if len(diff_ids) != len(manifest["Layers"]):
            raise ValueError(f"{len(diff_ids)} layers in the configuration, {len(manifest['Layers'])} in the archive")
        for name, diff_id in zip(manifest["Layers"], diff_ids, strict=True):
            content = outer.extractfile(name)
            assert content is not None
            digest = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # typeshed wants more of it
            if f"sha256:{digest}" != diff_id:
                raise ValueError(f"layer {diff_id} has the digest {digest}")
            content.seek(0)
            with tarfile.open(fileobj=content) as layer:
                _apply(files, layer)
    return Image(config, files, diff_ids)


def _apply(files: dict[str, Node], layer: tarfile.TarFile) -> None:
    for member in layer:
        path = member.name.removeprefix("./").strip("/")
        path = "" if path == "." else path
        parent, _, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            _remove(files, parent, itself=False)
        elif name.startswith(".wh."):
            _remove(files, f"{parent}/{name[4:]}".lstrip("/"), itself=True)
        elif member.islnk():
            node = files[member.linkname.removeprefix("./").strip("/")]
            _remove(files, path, itself=True)
            node.names.add(path)
            files[path] = node
        else:
            if not member.isdir() or (path in files and files[path].attributes["type"] != "directory"):
                _remove(files, path, itself=True)
            files[path] = Node(_attributes(layer, member), {path})


def _remove(files: dict[str, Node], path: str, *, itself: bool) -> None:
    for one in [name for name in files if (name == path and itself) or name.startswith(f"{path}/" if path else "")]:
        if one == path and not itself:
            continue
        files.pop(one).names.discard(one)


def _attributes(layer: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": _TYPES[member.type],
        "mode": member.mode & 0o7777,
        "uid": member.uid,
        "gid": member.gid,
        "mtime": int(member.mtime),
        "xattrs": {
            name: value for name, value in sorted(member.pax_headers.items()) if name.startswith("SCHILY.xattr.")
        },
    }
    if member.issym():
        found["target"] = member.linkname
    if member.isdev() and not member.isfifo():
        found["device"] = (member.devmajor, member.devminor)
    if member.isreg():
        content = layer.extractfile(member)
        assert content is not None
        found["size"] = member.size
        found["digest"] = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # as above
    return found
