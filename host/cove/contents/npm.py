"""package.json of what npm, yarn and pnpm have put into node_modules (docs.npmjs.com/cli/configuring-npm/package-json)."""

from __future__ import annotations

import json
from typing import Any

from cove.contents.package import Package, clean


def package(text: str) -> Package | None:
    """None for the package.json of a folder that is no package. Raises `ValueError` for what is not JSON."""
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        return None
    name, version = document.get("name"), document.get("version")
    if not (isinstance(name, str) and isinstance(version, str) and clean(name) and clean(version)):
        return None
    return Package("npm", clean(name), clean(version), licence=_licence(document))


def _licence(document: dict[str, Any]) -> str:
    stated = document.get("license") or document.get("licenses") or ""
    several = stated if isinstance(stated, list) else [stated]
    named = [each.get("type") if isinstance(each, dict) else each for each in several]
    return clean(", ".join(each for each in named if isinstance(each, str)))
