"""Image archives made by the tests: `docker save` in its layouts, OCI layouts, and layers of all kinds."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from typing import Any

Member = tuple[str, bytes | tarfile.TarInfo]


def tar(members: Iterable[Member]) -> bytes:
    """A tar archive; a member is a name with content, or with a ``TarInfo`` that says what else it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, what in members:
            if isinstance(what, tarfile.TarInfo):
                what.name = name
                archive.addfile(what)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(what)
                info.mode = 0o644
                archive.addfile(info, io.BytesIO(what))
    return buffer.getvalue()


def special(kind: bytes, *, link: str = "", mode: int = 0o755, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname, info.mode = kind, link, mode
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def config(layers: list[bytes], **fields: Any) -> bytes:
    """An image configuration for uncompressed layers."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-05-06T07:08:09.123456789Z",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "Labels": {"made": "by-tests"}},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        "history": [{"created": "2024-05-06T07:08:09Z", "created_by": f"layer {n}"} for n in range(len(layers))]
        + [{"created": "2024-05-06T07:08:10Z", "created_by": "CMD sh", "empty_layer": True}],
    }
    return json.dumps({**document, **fields}).encode()


def docker_archive(layers: list[bytes], tags: list[str], **fields: Any) -> bytes:
    """The layout of `docker save` before 25: layers first, their names in manifest.json, which comes last."""
    document = config(layers, **fields)
    name = f"{hashlib.sha256(document).hexdigest()}.json"
    paths = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": name, "RepoTags": tags or None, "Layers": paths}]
    return tar([*zip(paths, layers, strict=True), (name, document), ("manifest.json", json.dumps(manifest).encode())])


def oci_archive(layers: list[bytes], tag: str, *, stored: list[bytes] | None = None) -> bytes:
    """An OCI image layout with an index of two platforms; ``stored`` are the layers as they are in it (compressed)."""
    stored = stored or layers
    document = config(layers)

    def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": descriptor(document, "application/vnd.oci.image.config.v1+json"),
            "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in stored],
        }
    ).encode()
    machines = {"amd64": manifest, "arm64": manifest}
    inner = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    **descriptor(data, "application/vnd.oci.image.manifest.v1+json"),
                    "platform": {"os": "linux", "architecture": machine},
                }
                for machine, data in machines.items()
            ],
        }
    ).encode()
    outer = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    **descriptor(inner, "application/vnd.oci.image.index.v1+json"),
                    "annotations": {"io.containerd.image.name": tag},
                }
            ],
        }
    ).encode()
    blobs = [document, manifest, inner, *stored]
    return tar(
        [
            ("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
            *((f"blobs/sha256/{digest(blob).removeprefix('sha256:')}", blob) for blob in blobs),
            ("index.json", outer),
        ]
    )
