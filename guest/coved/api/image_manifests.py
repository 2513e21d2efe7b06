"""The field ``Manifests`` of images (API 1.47 and newer): what there is of an image, platform by platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coved.images import Image, documents

if TYPE_CHECKING:
    from coved.engine import Engine


def of(engine: Engine, image: Image) -> list[dict[str, Any]]:
    """An ``ImageManifestSummary`` for each image that has the same names, this machine's platform first. Raises EngineError."""
    return [_summary(engine, one) for one in engine.images.platforms(image)]


def _summary(engine: Engine, image: Image) -> dict[str, Any]:
    saved = engine.images.manifest(image)
    manifest = documents.manifest(saved.document)
    descriptor = saved.descriptor()
    content = descriptor.size + manifest.config.size + sum(layer.size for layer in manifest.layers)
    return {
        "ID": saved.digest,
        "Descriptor": descriptor.to_json(),
        "Available": True,
        "Size": {"Content": content, "Total": content + image.size},
        "Kind": "image",
        "ImageData": {
            "Platform": descriptor.to_json()["platform"],
            "Containers": engine.images.users_of(image),
            "Size": {"Unpacked": image.size},
        },
    }
