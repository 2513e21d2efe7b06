"""Entries of an OSV database, and images to hold against them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cove.contents.package import Contents, Distribution, Image, Installed, Package, Place

CRITICAL = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]
LOW = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}]
DEBIAN = Distribution("debian", "12", "12 (bookworm)", "Debian GNU/Linux 12 (bookworm)")
ALPINE = Distribution("alpine", "3.19.1", "", "Alpine Linux v3.19")
LAYER = "sha256:" + "2" * 64


def affected(ecosystem: str, name: str, fixed: str = "", **more: Any) -> dict[str, Any]:
    events = [{"introduced": "0"}] + ([{"fixed": fixed}] if fixed else [])
    kind = "SEMVER" if ecosystem == "npm" else "ECOSYSTEM"
    return {"package": {"ecosystem": ecosystem, "name": name}, "ranges": [{"type": kind, "events": events}], **more}


def entry(identifier: str, *packages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": identifier, "modified": "2026-01-02T03:04:05Z", "affected": [*packages], **more}


def archive(path: Path, entries: Iterable[dict[str, Any]]) -> Path:
    """A zip as osv.dev publishes it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for each in entries:
            file.writestr(f"{each['id']}.json", json.dumps(each))
    return path


def image(*packages: Package, distribution: Distribution | None = DEBIAN) -> Contents:
    installed = [Installed(package, (Place("/var/lib/some where", LAYER),)) for package in sorted(packages)]
    return Contents(Image("app:1", "sha256:" + "1" * 64, "amd64", (LAYER,)), distribution, installed, [])


def deb(name: str, version: str, source: str = "", source_version: str = "") -> Package:
    return Package("deb", name, version, "amd64", source or name, source_version or version)
