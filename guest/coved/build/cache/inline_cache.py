"""A cache that travels in an image's configuration (``--cache-to type=inline``): which step has made which layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coved.build.cache.steps import Step
from coved.images import Image

FIELD = "org.cove.build.cache"
_STEPS_MAX = 2000


def wanted(cache_to: Sequence[Mapping[str, str]], build_args: Mapping[str, str | None]) -> bool:
    return build_args.get("BUILDKIT_INLINE_CACHE") == "1" or any(one.get("type") == "inline" for one in cache_to)


def of_steps(steps: Sequence[Step], diff_ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """What goes into the configuration. ``diff_ids``: of the snapshots."""
    return [
        {
            "key": step.key, "id": step.id, "layer": diff_ids[step.ref] if step.ref else "", "step": step.description,
            "created": step.created_ns,
        }
        for step in steps
    ]  # fmt: skip


def steps_of(image: Image) -> dict[str, Step]:
    """The steps that an image tells of, by their keys. What is not right in its configuration is passed over."""
    listed: Any = image.config.get(FIELD)
    found: dict[str, Step] = {}
    for one in listed[:_STEPS_MAX] if isinstance(listed, list) else ():
        texts = [one.get(name) for name in ("key", "id", "layer", "step")] if isinstance(one, dict) else []
        words = [text for text in texts if isinstance(text, str)]
        if len(words) != 4:
            continue
        key, id, layer, description = words
        created = one.get("created")
        if isinstance(created, int) and 0 <= created < 1 << 62 and (not layer or layer in image.diff_ids):
            found[key] = Step(key, id, layer, "", description, created, created, 1, imported=True)
    return found
