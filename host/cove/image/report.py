"""What is in an image: packages, versions, licences, sizes, and what takes the room."""

from __future__ import annotations

import json
import lzma
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

from cove.image import deb
from cove.image.download import Downloader
from cove.image.inputs import recipe_dir
from cove.image.recipe import Recipe
from cove.image.store import VmImage
from cove.machine.paths import cache_dir


@dataclass(frozen=True, slots=True)
class Line:
    """One package; `kept` is how many bytes of it are in the image, None when its file is not in the cache any more."""

    name: str
    version: str
    licences: tuple[str, ...]
    kept: int | None


def compressed_sizes(image: VmImage) -> dict[str, int]:
    """Bytes of each artefact after xz at a moderate level, which is what a download would take."""
    result = {}
    for path in (image.kernel, image.initramfs, image.system):
        compressor = lzma.LZMACompressor(preset=2)
        size = 0
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                size += len(compressor.compress(chunk))
        result[path.name] = size + len(compressor.flush())
    return result


def packages(image: VmImage) -> list[Line]:
    """The image's packages with the licences that their copyright files name (DEP-5), largest first."""
    manifest: dict[str, Any] = json.loads(image.manifest.read_text("utf-8"))
    recipe = Recipe.load(recipe_dir(), image.architecture)
    downloads = Downloader(cache_dir() / "packages")
    lines = []
    for entry in manifest["packages"]:
        path = downloads.path(entry["sha256"])
        licences: Counter[str] = Counter()
        kept: int | None = None
        if path.is_file():
            kept = 0
            for name, node in deb.files(path, partial(_of_interest, recipe, entry["name"])):
                if not node.is_file:
                    continue
                if name == _copyright(entry["name"]):
                    licences.update(_licences(node.data.decode("utf-8", "replace")))
                if recipe.keeps(entry["name"], name):
                    kept += len(node.data)
        lines.append(Line(entry["name"], entry["version"], tuple(name for name, _ in licences.most_common()), kept))
    return sorted(lines, key=lambda line: -(line.kept or 0))


def _of_interest(recipe: Recipe, package: str, name: str) -> bool:
    return name == _copyright(package) or recipe.keeps(package, name)


def _copyright(package: str) -> str:
    return f"usr/share/doc/{package}/copyright"


def _licences(copyright_file: str) -> list[str]:
    """The licences that a copyright file names: machine-readable ones (DEP-5) say so, others refer to Debian's copies."""
    if copyright_file.startswith("Format:"):
        return re.findall(r"(?m)^License: *(\S.*)$", copyright_file)
    return re.findall(r"/usr/share/common-licenses/([A-Za-z0-9.-]*[A-Za-z0-9])", copyright_file)
