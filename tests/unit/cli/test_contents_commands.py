"""`cove image sbom` and `cove image scan`: what they ask the engine, what they print, and how they end."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.cli import main as cli
from image_layers import STATUS, digest, gzipped, layer, manifest, saved, stanza
from told_engine import Engine, engine_at

ID = "sha256:" + "a" * 64
OS_RELEASE = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
LAYER = layer(
    {
        STATUS: stanza("bash", "5.2-1"),
        "etc/os-release": OS_RELEASE,
        "app/node_modules/x/package.json": manifest("x", "1.0.0", license="MIT"),
        "app/lib.jar": "a jar",
    }
)
VECTOR = [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:L/I:L/A:L"}]
ENTRY = {
    "id": "GHSA-1",
    "modified": "2020-01-02T03:04:05Z",
    "aliases": ["CVE-1"],
    "summary": "Bad",
    "severity": VECTOR,
    "affected": [
        {
            "package": {"ecosystem": "npm", "name": "x"},
            "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "1.0.1"}]}],
        }
    ],
}
GAPS = """\
not checked: 1 packages (deb): the database has none of Debian:12
not read: Java archive (1), such as /app/lib.jar
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    with engine_at(tmp_path / "docker.sock") as made:
        described = {"Id": ID, "Architecture": "amd64", "Size": len(LAYER), "RootFS": {"Layers": [digest(LAYER)]}}
        made.answers["GET", "/images/app:1/json"] = (200, described)
        made.answers["GET", "/images/get"] = (200, saved([LAYER], gzipped))
        monkeypatch.setenv("COVE_HOST", made.url)
        monkeypatch.setenv("COVE_HOME", str(tmp_path / "home"))
        monkeypatch.delenv("COVE_OSV_DATABASE", raising=False)
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
        yield made


@pytest.fixture
def run(engine: Engine, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    def do(*words: str) -> tuple[int, str, str]:
        statuses: list[int] = []
        monkeypatch.setattr(cli.os, "_exit", statuses.append)
        cli.main(["image", *words])
        said = capfdbinary.readouterr()
        return statuses[0], said.out.decode(), said.err.decode().replace("\r\n", "\n")

    return do


@pytest.fixture
def osv(tmp_path: Path) -> str:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("GHSA-1.json", json.dumps(ENTRY))
    return str(path)


def test_the_image_is_asked_for_by_its_id(run: Run, engine: Engine) -> None:
    assert run("sbom", "app:1")[0] == 0
    assert [(each.path, each.query) for each in engine.requests] == [
        ("/images/app:1/json", {}),
        ("/images/get", {"names": ID}),
    ]


@pytest.mark.parametrize(
    ("form", "field", "value"),
    [
        ("spdx", "spdxVersion", "SPDX-2.3"),
        ("spdx-json", "spdxVersion", "SPDX-2.3"),
        ("cyclonedx", "specVersion", "1.6"),
        ("cyclonedx-json", "specVersion", "1.6"),
        ("json", "id", ID),
    ],
)
def test_forms_of_sbom(run: Run, form: str, field: str, value: str) -> None:
    status, out, err = run("sbom", "app:1", "--format", form)
    assert status == 0
    assert json.loads(out)[field] == value
    assert err == "not read: Java archive (1), such as /app/lib.jar\n"
    assert run("sbom", "-q", "app:1", "--format", form) == (0, out, "")


def test_sbom_as_json(run: Run) -> None:
    found = json.loads(run("sbom", "--json", "app:1")[1])
    assert found == {
        "image": "app:1",
        "id": ID,
        "architecture": "amd64",
        "layers": [digest(LAYER)],
        "distribution": {"id": "debian", "version": "12", "name": "Debian GNU/Linux 12 (bookworm)"},
        "packages": [
            {
                "kind": "deb",
                "name": "bash",
                "version": "5.2-1",
                "architecture": "amd64",
                "source": "bash",
                "source_version": "5.2-1",
                "places": [{"path": f"/{STATUS}", "layer": digest(LAYER)}],
                "licence": "",
                "purl": "pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-12",
            },
            {
                "kind": "npm",
                "name": "x",
                "version": "1.0.0",
                "architecture": None,
                "source": None,
                "source_version": None,
                "places": [{"path": "/app/node_modules/x/package.json", "layer": digest(LAYER)}],
                "licence": "MIT",
                "purl": "pkg:npm/x@1.0.0",
            },
        ],
        "unread": [{"what": "Java archive", "count": 1, "example": "/app/lib.jar"}],
    }


def test_into_a_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "sbom.json"
    assert run("sbom", "-q", "-o", str(path), "app:1") == (0, "", "")
    assert json.loads(path.read_text())["SPDXID"] == "SPDXRef-DOCUMENT"
    status, _, err = run("sbom", "-o", str(tmp_path), "app:1")
    assert (status, err) == (1, "failed to write the document: cannot write to a directory\n")


def test_a_table_of_what_was_found(run: Run, osv: str) -> None:
    status, out, err = run("scan", "--database", osv, "app:1")
    assert status == 0
    assert [line.split() for line in out.splitlines()] == [
        ["SEVERITY", "VULNERABILITY", "PACKAGE", "VERSION", "FIXED", "IN", "ECOSYSTEM"],
        ["high", "7.3", "CVE-1", "x", "1.0.0", "1.0.1", "npm"],
    ]
    first, *rest = err.splitlines()
    assert first.startswith(f"database: {osv}, 1 vulnerabilities, the newest of 2020-01-02T03:04:05Z (")
    assert rest == GAPS.splitlines()
    assert run("scan", "-q", "--database", osv, "app:1") == (0, out, GAPS)


def test_a_scan_as_json(run: Run, osv: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVE_OSV_DATABASE", osv)
    status, out, err = run("scan", "--json", "-q", "app:1")
    assert (status, err) == (0, GAPS)
    assert run("scan", "--format", "json", "-q", "app:1") == (0, out, GAPS)
    found = json.loads(out)
    [finding] = found["findings"]
    assert finding["package"].pop("name") == "x"
    assert {key: value for key, value in finding.items() if key != "package"} == {
        "id": "CVE-1",
        "aliases": ["GHSA-1"],
        "entries": ["GHSA-1"],
        "severity": "high",
        "score": 7.3,
        "fixed": "1.0.1",
        "summary": "Bad",
        "ecosystem": "npm",
    }
    assert found["database"] == {
        "path": osv, "newest": "2020-01-02T03:04:05Z", "entries": 1, "withdrawn": 0, "unread": 0,
    }  # fmt: skip
    assert found["unchecked"] == [{"kind": "deb", "ecosystem": "Debian:12", "packages": 1}]


def test_a_scan_as_sarif(run: Run, osv: str) -> None:
    document = json.loads(run("scan", "--database", osv, "--format", "sarif", "app:1")[1])
    assert [each["ruleId"] for each in document["runs"][0]["results"]] == ["CVE-1"]


@pytest.mark.parametrize(("threshold", "status"), [("low", 3), ("medium", 3), ("high", 3), ("critical", 0)])
def test_the_exit_status_is_by_severity(run: Run, osv: str, threshold: str, status: int) -> None:
    assert run("scan", "--database", osv, "--fail-on", threshold, "app:1")[0] == status


def test_nothing_is_found(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "osv"
    path.mkdir()
    other: dict[str, Any] = {**ENTRY, "affected": [{"package": {"ecosystem": "npm", "name": "y"}}]}
    (path / "GHSA-1.json").write_text(json.dumps(other))
    status, out, _ = run("scan", "--fail-on", "low", "--database", str(path), "app:1")
    assert (status, out) == (0, "No known vulnerability in the 1 packages that were checked\n")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"usr/lib/sysimage/rpm/rpmdb.sqlite": "", "etc/os-release": "ID=fedora\n"}, "not read: rpm database (1), such as"),
        ({STATUS: stanza("bash", "1")}, "not checked: 1 packages (deb): OSV does not have their distribution"),
        ({STATUS: stanza("bash", "1"), "etc/os-release": OS_RELEASE}, "the database has none of Debian:12"),
        ({"a": ""}, ""),
    ],
)  # fmt: skip
def test_a_gate_does_not_open_for_what_nobody_checked(
    run: Run, engine: Engine, osv: str, files: dict[str, str], said: str
) -> None:
    made = layer(files)
    described = {"Id": ID, "Architecture": "amd64", "RootFS": {"Layers": [digest(made)]}}
    engine.answers["GET", "/images/app:1/json"] = (200, described)
    engine.answers["GET", "/images/get"] = (200, saved([made]))
    status, out, err = run("scan", "-q", "--database", osv, "--fail-on", "critical", "app:1")
    assert (status, out) == (1, "No known vulnerability in the 0 packages that were checked\n")
    assert said in err
    assert err.endswith("--fail-on: nothing can be said: no package of the image was checked\n")
    assert run("scan", "-q", "--database", osv, "app:1")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sbom", "--format", "xml", "app:1"], "unknown --format: xml: it must be one of spdx,"),
        (["scan", "app:1"], "no vulnerability database is named: --database PATH (or COVE_OSV_DATABASE)"),
        (["scan", "--database", "x", "--format", "spdx", "app:1"], "it must be one of table, json, sarif"),
        (["scan", "--database", "x", "--fail-on", "severe", "app:1"], "it must be one of low, medium, high, critical"),
        (
            ["scan", "--database", "/nowhere/all.zip", "app:1"],
            "all.zip cannot be read",
        ),
        (["sbom", "none"], "page not found"),
    ],
)
def test_refusals(run: Run, words: list[str], said: str) -> None:
    status, out, err = run(*words)
    assert (status, out) == (1, "")
    assert said in err


def test_an_archive_that_is_not_of_the_image_is_refused(run: Run, engine: Engine, osv: str) -> None:
    engine.answers["GET", "/images/get"] = (200, saved([layer({"other": ""})]))
    for words in (["sbom", "app:1"], ["scan", "--database", osv, "--fail-on", "low", "app:1"]):
        status, out, err = run(*words)
        assert (status, out) == (1, "")
        assert "the engine's archive of the image lacks the layer" in err


def test_a_scratch_image_has_nothing(run: Run, engine: Engine) -> None:
    engine.answers["GET", "/images/app:1/json"] = (
        200,
        {"Id": ID, "Architecture": "amd64", "RootFS": {"Type": "layers"}},
    )
    engine.answers["GET", "/images/get"] = (200, saved([]))
    found = json.loads(run("sbom", "--json", "app:1")[1])
    assert (found["packages"], found["layers"], found["distribution"]) == ([], [], None)
