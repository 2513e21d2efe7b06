"""`cove image sbom` and `cove image scan` of images that an engine has built, held against what is said in them.

On this computer's engine in both cases: it is the client that is tested, and Debian's image takes minutes under emulation.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from base_image import have_base_image

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]

NAME = "cove-test/contents"
SITE = "usr/local/lib/python3.13/site-packages"
DOCKERFILE = f"""
FROM debian:13-slim
COPY site /{SITE}
COPY app /app
RUN rm -r /{SITE}/idna-*.dist-info /app/node_modules/gone && dpkg --purge --force-depends tzdata
"""
MANIFESTS = {
    "app/node_modules/left-pad/package.json": {"name": "left-pad", "version": "1.3.0", "license": "WTFPL"},
    "app/node_modules/@scope/thing/package.json": {"name": "@scope/thing", "version": "2.0.0-rc.1"},
    "app/node_modules/gone/package.json": {"name": "gone", "version": "1.0.0"},
}


@pytest.fixture(scope="module")
def client(native_engine: Any) -> Iterator[Any]:
    made = docker.DockerClient(native_engine.url, timeout=120)
    yield made
    made.close()


@pytest.fixture(scope="module")
def image(native_engine: Any, client: Any) -> Any:
    have_base_image(native_engine.url)
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, data in files().items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    context.seek(0)
    made, _ = client.images.build(fileobj=context, custom_context=True, tag=NAME)
    return made


def files() -> dict[str, bytes]:
    """The build's context: packages that pip has installed here, and what npm leaves."""
    found = {"Dockerfile": DOCKERFILE.encode()}
    for name in ("click", "idna"):
        distribution = importlib.metadata.distribution(name)
        metadata = distribution.read_text("METADATA")
        assert metadata
        found[f"site/{name}-{distribution.version}.dist-info/METADATA"] = metadata.encode()
    return found | {path: json.dumps(manifest).encode() for path, manifest in MANIFESTS.items()}


@pytest.fixture
def environment(native_engine: Any, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "COVE_HOST": native_engine.url, "COVE_HOME": str(tmp_path / "home"), "SOURCE_DATE_EPOCH": "1"}


def cove(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cove", "image", *words],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def sbom(environment: dict[str, str], *words: str) -> Any:
    done = cove(environment, "sbom", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_debians_packages_are_those_that_dpkg_knows(environment: dict[str, str], client: Any, image: Any) -> None:
    script = "dpkg-query -W -f '${Package}\\t${Version}\\t${Architecture}\\t${source:Package}\\t${source:Version}\\n'"
    said = client.containers.run(image.id, ["sh", "-c", script], remove=True, network_mode="none").decode()
    found = sbom(environment, "--json", NAME)
    told = [each for each in found["packages"] if each["kind"] == "deb"]
    fields = ("name", "version", "architecture", "source", "source_version")
    assert sorted([*map(each.get, fields)] for each in told) == sorted(line.split("\t") for line in said.splitlines())
    assert len(told) > 70
    base = image.attrs["RootFS"]["Layers"][0]
    # The database of the uppermost layer tells of them, and the lowest brought them.
    assert {place["layer"] for each in told for place in each["places"]} == {base}
    assert found["distribution"]["id"] == "debian"
    assert found["distribution"]["version"] == "13"
    assert not [each for each in told if each["name"] == "tzdata"]


def test_packages_of_languages_are_told_but_for_those_that_a_later_layer_removes(
    environment: dict[str, str], image: Any
) -> None:
    layers = image.attrs["RootFS"]["Layers"]
    found = sbom(environment, "--json", NAME)
    told = {
        (each["kind"], each["name"]): (each["version"], [layers.index(place["layer"]) for place in each["places"]])
        for each in found["packages"]
        if each["kind"] != "deb"
    }
    assert told == {
        ("pypi", "click"): (importlib.metadata.version("click"), [1]),
        ("npm", "left-pad"): ("1.3.0", [2]),
        ("npm", "@scope/thing"): ("2.0.0-rc.1", [2]),
    }


@pytest.mark.parametrize("form", ["spdx", "cyclonedx"])
def test_the_same_image_has_the_same_document(environment: dict[str, str], image: Any, form: str) -> None:
    first, second = (cove(environment, "sbom", "--format", form, NAME).stdout for _ in range(2))
    assert first == second
    assert "pkg:pypi/click@" in first


def test_an_image_of_one_program_has_none(environment: dict[str, str], native_engine: Any) -> None:
    found = sbom(environment, "--json", "busybox")
    assert (found["packages"], found["distribution"]) == ([], None)


def test_a_scan_finds_what_a_database_says_and_ends_with_its_own_status(
    environment: dict[str, str], image: Any, tmp_path: Path
) -> None:
    click = importlib.metadata.version("click")
    entries = [
        entry("DEBIAN-CVE-1", "Debian:13", "base-files", "999", upstream=["CVE-1"], severity=VECTOR),
        entry("DEBIAN-CVE-2", "Debian:13", "base-files", "1", upstream=["CVE-2"], severity=VECTOR),
        entry("GHSA-3", "PyPI", "click", f"{click}.1", aliases=["CVE-3"], database_specific={"severity": "MODERATE"}),
        entry("GHSA-4", "npm", "gone", "9.0.0", severity=VECTOR),
    ]
    database = tmp_path / "all.zip"
    with zipfile.ZipFile(database, "w") as archive:
        for each in entries:
            archive.writestr(f"{each['id']}.json", json.dumps(each))
    words = ("scan", "--database", str(database), NAME)
    done = cove(environment, *words, "--json")
    assert done.returncode == 0, done.stderr
    told = [
        (each["id"], each["severity"], each["package"]["name"], each["fixed"])
        for each in json.loads(done.stdout)["findings"]
    ]
    assert told == [("CVE-1", "critical", "base-files", "999"), ("CVE-3", "medium", "click", f"{click}.1")]
    assert cove(environment, *words, "--fail-on", "critical").returncode == 3
    assert "4 vulnerabilities" in done.stderr
    missing = cove(environment, "scan", "--database", str(database), "no/such/image")
    assert missing.returncode == 1
    assert "No such image" in missing.stderr


VECTOR = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]


def entry(identifier: str, ecosystem: str, name: str, fixed: str, **more: Any) -> dict[str, Any]:
    kind = "SEMVER" if ecosystem == "npm" else "ECOSYSTEM"
    events = [{"introduced": "0"}, {"fixed": fixed}]
    affected = {"package": {"ecosystem": ecosystem, "name": name}, "ranges": [{"type": kind, "events": events}]}
    return {"id": identifier, "modified": "2026-01-01T00:00:00Z", "affected": [affected], **more}
