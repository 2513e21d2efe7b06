"""A scan as SARIF 2.1.0 (docs.oasis-open.org/sarif/sarif/v2.1.0), for those who show it beside code."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

from cove.contents.provenance import TOOL, Provenance
from cove.vulnerabilities.scan import Finding, Scan
from cove.vulnerabilities.severity import Level

_LEVELS = {Level.CRITICAL: "error", Level.HIGH: "error", Level.MEDIUM: "warning", Level.UNKNOWN: "warning"}
_SCORES = {Level.CRITICAL: 9.0, Level.HIGH: 7.0, Level.MEDIUM: 4.0, Level.LOW: 0.1, Level.NONE: 0.0}
"""What stands for a severity without a score, where a number is asked for: the least of its kind."""


def document(scan: Scan, provenance: Provenance) -> dict[str, Any]:
    rules: dict[str, dict[str, Any]] = {}
    for finding in scan.findings:
        rules.setdefault(finding.identifier, _rule(finding))
    places = {identifier: place for place, identifier in enumerate(rules)}
    image = scan.contents.image
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": TOOL, "version": provenance.version, "rules": list(rules.values())}},
                "invocations": [{"executionSuccessful": True, "endTimeUtc": provenance.time}],
                "properties": {
                    "image": image.name,
                    "imageId": image.identifier,
                    "database": scan.database.path,
                    "databaseNewestEntry": scan.database.newest,
                    "unchecked": [f"{each.packages} {each.ecosystem or each.kind}" for each in scan.unchecked],
                    "unread": [f"{each.count} {each.what}" for each in scan.contents.unread],
                },
                "results": [_result(finding, places, image.name) for finding in scan.findings],
            }
        ],
    }


def _rule(finding: Finding) -> dict[str, Any]:
    text = finding.summary or finding.identifier
    score = finding.severity.score if finding.severity.score is not None else _SCORES.get(finding.severity.level)
    return {
        "id": finding.identifier,
        "shortDescription": {"text": text},
        "helpUri": f"https://osv.dev/vulnerability/{quote(finding.entries[0])}",
        "defaultConfiguration": {"level": _LEVELS.get(finding.severity.level, "note")},
        "properties": {"tags": ["security", "vulnerability"]}
        # What code hosts sort by; it is text there.
        | ({} if score is None else {"security-severity": f"{score:.1f}"}),
    }


def _result(finding: Finding, places: dict[str, int], image: str) -> dict[str, Any]:
    package = finding.installed.package
    mended = f"mended in {finding.fixed}" if finding.fixed else "no mended version is known"
    text = f"{package.name} {package.version} has {finding.identifier} ({finding.severity.level.word}); {mended}"
    told = "\0".join((finding.identifier, package.kind, package.name, package.version, package.architecture))
    return {
        "ruleId": finding.identifier,
        "ruleIndex": places[finding.identifier],
        "level": _LEVELS.get(finding.severity.level, "note"),
        "message": {"text": text + (f". {finding.summary}" if finding.summary else "")},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": quote(place.path.lstrip("/"))}},
                "logicalLocations": [{"fullyQualifiedName": f"{image}@{place.layer}:{place.path}"}],
            }
            for place in finding.installed.places
        ],
        "partialFingerprints": {"vulnerability/v1": hashlib.sha256(told.encode()).hexdigest()},
    }
