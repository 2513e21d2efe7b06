"""An image's contents as CycloneDX 1.6, in JSON (cyclonedx.org/docs/1.6/json)."""

from __future__ import annotations

from typing import Any

from cove.contents import licences, purl
from cove.contents.package import Contents, Distribution, Installed
from cove.contents.provenance import TOOL, Provenance, identity

_IMAGE = "image"


def document(contents: Contents, provenance: Provenance) -> dict[str, Any]:
    components = [_distribution(contents.distribution)] if contents.distribution else []
    taken: dict[str, int] = {}
    for each in contents.packages:
        component = _component(each, contents.distribution)
        named = component.get("purl") or f"{each.package.kind} {each.package.name}@{each.package.version}"
        count = taken[named] = taken.get(named, 0) + 1
        # A reference is of one component, and the same URL may be of two that differ in their licence.
        reference = named if count == 1 else f"{named}#{count}"
        components.append({"bom-ref": reference, **component})
    image = contents.image
    root = {
        "bom-ref": _IMAGE,
        "type": "container",
        "name": image.name,
        "version": image.identifier,
        "properties": [_property("layer", layer) for layer in image.layers]
        + [_property("unread", f"{each.what}: {each.count}, such as {each.example}") for each in contents.unread],
    }
    stated = {
        "components": components,
        "dependencies": [{"ref": _IMAGE, "dependsOn": [each["bom-ref"] for each in components]}],
        "compositions": [{"aggregate": "incomplete" if contents.unread else "unknown", "assemblies": [_IMAGE]}],
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{identity({'image': root, **stated})}",
        "version": 1,
        "metadata": {
            "timestamp": provenance.time,
            "tools": {"components": [{"type": "application", "name": TOOL, "version": provenance.version}]},
            "component": root,
        },
        **stated,
    }


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"cove:{name}", "value": value}


def _distribution(distribution: Distribution) -> dict[str, Any]:
    return {
        "bom-ref": "distribution",
        "type": "operating-system",
        "name": distribution.identifier,
        **({"version": distribution.version} if distribution.version else {}),
        "description": distribution.name,
    }


def _component(installed: Installed, distribution: Distribution | None) -> dict[str, Any]:
    package = installed.package
    component: dict[str, Any] = {"type": "library", "name": package.name, "version": package.version}
    if package.kind == "npm" and package.name.startswith("@") and "/" in package.name.strip("/"):
        component["group"], _, component["name"] = package.name.partition("/")
    if declared := licences.expression(package.licence):
        component["licenses"] = [{"expression": declared}]
    elif package.licence:
        component["licenses"] = [{"license": {"name": package.licence}}]
    if url := purl.of(package, distribution):
        component["purl"] = url
    properties = [_property("kind", package.kind)]
    if package.source:
        properties.append(_property("source", f"{package.source} {package.source_version}"))
    for place in installed.places:
        properties += [_property("path", place.path), _property("layer", place.layer)]
    return component | {"properties": properties}
