"""Which images a list or a prune means, and the history of one."""

import dataclasses
import fnmatch
import time
from collections.abc import Mapping, Sequence
from typing import Any

from coved.filters import Filters
from coved.images import reference
from coved.images.catalog import Catalog
from coved.images.model import Image
from coved.times import parse_rfc3339_ns, parse_time_ns

LIST_FILTERS = frozenset({"before", "dangling", "label", "label!", "reference", "since", "until"})


def created_s(text: str) -> int:
    """Unix seconds of an RFC 3339 time; 0 for one that is missing or that no one can read."""
    try:
        return parse_rfc3339_ns(text) // 1_000_000_000
    except ValueError:
        return 0


def select(catalog: Catalog, filters: Filters) -> list[Image]:
    """Images that meet all filters, newest first."""
    filters.validate(LIST_FILTERS)
    images = catalog.all()
    for name in filters.get("before"):
        limit = created_s(catalog.find(name).created)
        images = [image for image in images if created_s(image.created) < limit]
    for name in filters.get("since"):
        limit = created_s(catalog.find(name).created)
        images = [image for image in images if created_s(image.created) > limit]
    if "dangling" in filters:
        dangling = filters.flag("dangling")
        images = [image for image in images if (not image.tags and not image.digests) is dangling]
    patterns = filters.get("reference")
    if patterns:
        images = [_narrowed(image, patterns) for image in images if _matching(image.tags, patterns)]
    images = _before(images, filters)
    images = [image for image in images if filters.matches_labels(image.labels)]
    return sorted(images, key=lambda image: (created_s(image.created), image.id), reverse=True)


def prunable(catalog: Catalog, filters: Filters, only_dangling: bool) -> list[Image]:
    """Images that a prune may take, whether or not containers need them."""
    images = [image for image in catalog.all() if filters.matches_labels(image.labels)]
    return [image for image in _before(images, filters) if not only_dangling or not (image.tags or image.digests)]


def history(image: Image, ancestors: Sequence[Image], layer_sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """History as ``GET /images/{name}/history`` gives it, newest first. ``ancestors``: its parent, that one's parent..."""
    entries: list[dict[str, Any]] = []
    layers = iter(image.diff_ids)
    for item in image.config.get("history") or []:
        if not isinstance(item, dict):
            continue
        diff_id = None if item.get("empty_layer") else next(layers, None)
        entries.append(
            {
                "Id": "<missing>",
                "Created": created_s(str(item.get("created") or "")),
                "CreatedBy": str(item.get("created_by") or ""),
                "Tags": None,
                "Size": layer_sizes.get(diff_id, 0) if diff_id else 0,
                "Comment": str(item.get("comment") or ""),
            }
        )
    entries.reverse()
    for entry, of in zip(entries, (image, *ancestors), strict=False):
        entry["Id"] = of.id
        entry["Tags"] = list(of.tags) or None
    return entries


def _before(images: list[Image], filters: Filters) -> list[Image]:
    for text in filters.get("until"):
        limit = parse_time_ns(text, now_ns=time.time_ns()) // 1_000_000_000
        images = [image for image in images if created_s(image.created) < limit]
    return images


def _matching(names: tuple[str, ...], patterns: list[str]) -> list[str]:
    return [name for name in names if any(_matches(name, pattern) for pattern in patterns)]


def _narrowed(image: Image, patterns: list[str]) -> Image:
    """The filter ``reference`` hides an image's other names."""
    return dataclasses.replace(image, tags=tuple(_matching(image.tags, patterns)))


def _matches(name: str, pattern: str) -> bool:
    """A glob on the familiar name with or without its tag; ``*`` stays within one part of the path."""
    parsed = reference.parse(name)
    return any(
        _glob(candidate, pattern)
        for candidate in (parsed.familiar, parsed.familiar_repository, str(parsed), parsed.repository)
    )


def _glob(text: str, pattern: str) -> bool:
    parts, wanted = text.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))
