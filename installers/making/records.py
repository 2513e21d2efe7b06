"""What a release says about itself: checksums, an SBOM (CycloneDX) and where it comes from (an in-toto statement with SLSA's predicate)."""

from __future__ import annotations

import hashlib
import json
import platform
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from making import dependencies
from making.plan import Plan
from making.publisher import PUBLISHER
from making.targets import ALL

SUMS, SBOM, PROVENANCE = "SHA256SUMS", "sbom.cdx.json", "provenance.intoto.json"
BUILD_TYPE = "urn:cove:make-installers:1"
_NAMESPACE = uuid.UUID("3f7d8f0c-6c52-5b39-9d42-5c0b3c8f5a10")


@dataclass(frozen=True, slots=True)
class Part:
    """Something of others' that is in an installer: `file` and its digest; `purl` as package-url has it."""

    name: str
    version: str
    purl: str
    file: str
    sha256: str
    targets: str


def write(plan: Plan, made: Sequence[Path], parts: Sequence[Part], signed: bool) -> list[Path]:
    sbom = plan.out / SBOM
    _write(sbom, _sbom(plan, parts))
    provenance = plan.out / PROVENANCE
    _write(provenance, _provenance(plan, [*made, sbom], parts, signed))
    sums = plan.out / SUMS
    files = sorted([*made, sbom, provenance], key=lambda path: path.relative_to(plan.out).as_posix())
    sums.write_text("".join(f"{digest(path)}  {path.relative_to(plan.out).as_posix()}\n" for path in files))
    return [sbom, provenance, sums]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wheels(plan: Plan) -> list[Part]:
    """The wheels of all targets, each once."""
    found: dict[str, tuple[Path, list[str]]] = {}
    for target in ALL:
        for wheel in plan.wheels(target):
            found.setdefault(wheel.name, (wheel, []))[1].append(target.name)
    return [of_wheel(wheel, targets) for _, (wheel, targets) in sorted(found.items(), key=lambda each: each[0].lower())]


def of_wheel(path: Path, targets: Iterable[str]) -> Part:
    name, version, _ = dependencies.metadata(path)
    purl = f"pkg:pypi/{name}@{version}?file_name={path.name}"
    return Part(name, version, purl, path.name, digest(path), ", ".join(targets))


def _sbom(plan: Plan, parts: Sequence[Part]) -> Mapping[str, Any]:
    own = {
        "type": "application",
        "bom-ref": "cove",
        "name": "cove",
        "version": plan.version,
        "purl": f"pkg:generic/cove@{plan.version}",
    }
    components = [
        {
            "type": "library", "bom-ref": part.purl, "name": part.name, "version": part.version, "purl": part.purl,
            "hashes": [{"alg": "SHA-256", "content": part.sha256}],
            "properties": [{"name": "cove:file", "value": part.file}, {"name": "cove:in", "value": part.targets}],
        }
        for part in parts
    ]  # fmt: skip
    content = json.dumps([own, components], sort_keys=True)
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, plan.commit + content)}",
        "metadata": {
            "timestamp": _time(plan.epoch), "component": own, "supplier": {"name": PUBLISHER.name, "url": [PUBLISHER.homepage]},
            "properties": [
                {"name": "cove:vm-image", "value": "made on the user's computer from what cove/image/recipe/lock-*.json in the wheel name"}
            ],
        },
        "components": components,
        "dependencies": [{"ref": "cove", "dependsOn": [part.purl for part in parts]}],
    }  # fmt: skip


def _provenance(plan: Plan, subjects: Sequence[Path], parts: Sequence[Part], signed: bool) -> Mapping[str, Any]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": path.relative_to(plan.out).as_posix(), "digest": {"sha256": digest(path)}} for path in subjects
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"command": "make installers", "sourceDateEpoch": plan.epoch},
                "internalParameters": {"uncommittedChanges": plan.dirty, "signed": signed},
                "resolvedDependencies": [
                    {"name": "source", "uri": "git+cove", "digest": {"gitCommit": plan.commit}},
                    *({"name": part.file, "uri": part.purl, "digest": {"sha256": part.sha256}} for part in parts),
                ],
            },
            "runDetails": {
                "builder": {"id": "urn:cove:builder:checkout", "version": {"python": platform.python_version()}},
                "metadata": {"invocationId": f"{plan.commit}-{plan.epoch}"},
            },
        },
    }


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def _time(epoch: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
