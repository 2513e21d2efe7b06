"""os-release(5): which distribution an image is of."""

from __future__ import annotations

import shlex

from cove.contents.package import Distribution, clean


def distribution(text: str) -> Distribution | None:
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition("=")
        try:
            fields[name] = clean(" ".join(shlex.split(value, comments=True)))
        except ValueError:
            fields[name] = clean(value)
    identifier = fields.get("ID", "")
    if not identifier:
        return None
    version = fields.get("VERSION_ID", "")
    pretty = fields.get("PRETTY_NAME") or f"{identifier} {version}".strip()
    return Distribution(identifier, version, fields.get("VERSION", ""), pretty)
