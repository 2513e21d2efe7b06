"""Images made by hand: layers of files, as an engine's archive has them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence

from cove.contents import image as images
from cove.contents.package import Contents, Image

STATUS = "var/lib/dpkg/status"
FOLDER = object()
"""Stands for a folder in `layer`."""

Files = Mapping[str, "bytes | str | object"]


def layer(files: Files | Sequence[tuple[str, bytes | str | object]]) -> bytes:
    """A layer's archive; what is a `tarfile.TarInfo` is a member without content."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items() if isinstance(files, Mapping) else files:
            member = tarfile.TarInfo(name)
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            elif content is FOLDER:
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            else:
                data = content.encode() if isinstance(content, str) else content
                assert isinstance(data, bytes)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return output.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def saved(layers: Iterable[bytes], packed: Callable[[bytes], bytes] = lambda data: data) -> bytes:
    """What `docker save` gives: documents, and layers as blobs."""
    blobs = [packed(each) for each in layers]
    files: list[tuple[str, bytes | str | object]] = [("index.json", json.dumps({"schemaVersion": 2}))]
    files += [("blobs/sha256/0000", b'{"a": "configuration"}')]
    files += [(f"blobs/{digest(blob).replace(':', '/')}", blob) for blob in blobs]
    return layer(files)


def image(*layers: bytes) -> Image:
    return Image("app:1", "sha256:" + "1" * 64, "amd64", tuple(map(digest, layers)))


def read(*layers: bytes, packed: Callable[[bytes], bytes] = lambda data: data) -> Contents:
    data = saved(layers, packed)
    pieces = (data[at : at + 1000] for at in range(0, len(data), 1000))
    return images.read(image(*layers), pieces, lambda done: None)


def names(contents: Contents) -> list[str]:
    return [f"{each.package.name} {each.package.version}" for each in contents.packages]


def stanza(name: str, version: str, **more: str) -> str:
    fields = {"Package": name, "Status": "install ok installed", "Architecture": "amd64", "Version": version, **more}
    return "".join(f"{field}: {value}\n" for field, value in fields.items()) + "\n"


def wheel(name: str, version: str, **more: str) -> str:
    head = "".join(f"{field.replace('_', '-')}: {value}\n" for field, value in more.items())
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{head}\nWhat it is.\n"


def manifest(name: str, version: str, **more: object) -> str:
    return json.dumps({"name": name, "version": version, **more})


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)
