"""The field ``Manifests`` of images (API 1.47 and newer): what there is of an image, platform by platform."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from coved.errors import EngineError
from coved.images import Image, documents

if TYPE_CHECKING:
    from coved.engine import Engine


def of(engine: Engine, image: Image) -> list[dict[str, Any]]:
    """An ``ImageManifestSummary`` for each image that has the same names, this machine's platform first; none for one that can
    have no manifest, since an earlier version of the engine kept no archives of its layers."""
    summaries = []
    for one in engine.images.platforms(image):
        with contextlib.suppress(EngineError):
            summaries.append(_summary(engine, one))
    return summaries


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
