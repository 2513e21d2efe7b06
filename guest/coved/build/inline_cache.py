"""A cache that travels in an image's configuration (``--cache-to type=inline``): which step has made which layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coved.build.state import State
from coved.build.steps import Steps
from coved.images import Image

FIELD = "org.cove.build.cache"
_STEPS_MAX = 2000


def wanted(cache_to: Sequence[Mapping[str, str]], build_args: Mapping[str, str | None]) -> bool:
    return build_args.get("BUILDKIT_INLINE_CACHE") == "1" or any(one.get("type") == "inline" for one in cache_to)


def of_state(state: State, diff_ids: Mapping[str, str]) -> list[dict[str, str]]:
    """What goes into the configuration. ``diff_ids``: of the snapshots."""
    return [
        {"key": step.key, "layer": diff_ids[step.ref] if step.ref else "", "step": step.description}
        for step in state.steps
    ]


def take(image: Image, steps: Steps) -> None:
    """Steps that an image tells of count as carried out. What is not right in its configuration is passed over."""
    listed: Any = image.config.get(FIELD)
    parent = ""
    for one in listed[:_STEPS_MAX] if isinstance(listed, list) else ():
        if not isinstance(one, dict):
            continue
        key, layer, description = (one.get(name) for name in ("key", "layer", "step"))
        if not isinstance(key, str) or not isinstance(layer, str) or not isinstance(description, str):
            continue
        if (not layer or layer in image.diff_ids) and steps.find(key) is None:
            steps.record(key, layer, parent, description)
        parent = key
