"""An image's contents as SPDX 2.3, in JSON (spdx.github.io/spdx-spec/v2.3)."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from cove.contents import licences, purl
from cove.contents.package import Contents, Distribution, Installed
from cove.contents.provenance import TOOL, Provenance, identity

_NOTHING = "NOASSERTION"
_DOCUMENT = "SPDXRef-DOCUMENT"
_IMAGE = "SPDXRef-Image"
_DISTRIBUTION = "SPDXRef-Distribution"


def document(contents: Contents, provenance: Provenance) -> dict[str, Any]:
    packages = [_image(contents)]
    related = [_relationship(_DOCUMENT, "DESCRIBES", _IMAGE)]
    if contents.distribution:
        packages.append(_distribution(contents.distribution))
        related.append(_relationship(_IMAGE, "CONTAINS", _DISTRIBUTION))
    for each in contents.packages:
        packages.append(_package(each, contents.distribution))
        related.append(_relationship(_IMAGE, "CONTAINS", packages[-1]["SPDXID"]))
    name = contents.image.name
    stated = {"name": name, "packages": packages, "relationships": related}
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", name)
    return {
        "SPDXID": _DOCUMENT,
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "documentNamespace": f"https://spdx.org/spdxdocs/{slug}-{identity(stated)}",
        "creationInfo": {"created": provenance.time, "creators": [f"Tool: {TOOL}-{provenance.version}"]}
        | ({"comment": _unread(contents)} if contents.unread else {}),
        **stated,
    }


def _unread(contents: Contents) -> str:
    found = "; ".join(f"{each.what}: {each.count}, such as {each.example}" for each in contents.unread)
    return f"Found and not read: {found}"


def _relationship(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _stated(identifier: str, name: str, version: str) -> dict[str, Any]:
    """What each package must have."""
    return {
        "SPDXID": identifier,
        "name": name,
        **({"versionInfo": version} if version else {}),
        "supplier": _NOTHING,
        "downloadLocation": _NOTHING,
        "filesAnalyzed": False,
        "licenseConcluded": _NOTHING,
        "licenseDeclared": _NOTHING,
        "copyrightText": _NOTHING,
    }


def _image(contents: Contents) -> dict[str, Any]:
    image = contents.image
    digest = image.identifier.removeprefix("sha256:")
    return _stated(_IMAGE, image.name, image.identifier) | {
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
        "comment": "Layers: " + ", ".join(image.layers),
    }


def _distribution(distribution: Distribution) -> dict[str, Any]:
    stated = _stated(_DISTRIBUTION, distribution.identifier, distribution.version)
    return stated | {"primaryPackagePurpose": "OPERATING_SYSTEM", "description": distribution.name}


def _package(installed: Installed, distribution: Distribution | None) -> dict[str, Any]:
    package = installed.package
    locator = purl.of(package, distribution)
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{package.kind}-{package.name}-{package.version}")
    # Of all that is known: packages may differ in their licence alone, and have the same URL.
    unique = hashlib.sha256(repr((locator, package)).encode()).hexdigest()[:12]
    stated = _stated(f"SPDXRef-{readable}-{unique}", package.name, package.version)
    if locator:
        stated["externalRefs"] = [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}
        ]
    built = f"Built from {package.source} {package.source_version}. " if package.source else ""
    stated["sourceInfo"] = (
        built + "Told by " + ", ".join(f"{place.path} in {place.layer}" for place in installed.places)
    )
    if declared := licences.expression(package.licence):
        stated["licenseDeclared"] = declared
    elif package.licence:
        stated["licenseComments"] = f"Stated as: {package.licence}"
    return stated
