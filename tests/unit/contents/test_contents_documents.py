"""SPDX and CycloneDX documents, held against the schemas of those who made the formats (tests/data/README.md)."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cove.contents import cyclonedx, licences, provenance, purl, spdx
from cove.contents.package import Contents, Distribution, Image, Installed, Package, Place, Unread
from cove.contents.provenance import Provenance
from cove.errors import CoveError
from referencing import Registry, Resource

SCHEMAS = Path(__file__).parents[2] / "data" / "schemas"
PROVENANCE = Provenance("2026-01-02T03:04:05Z", "0.1.0")
DEBIAN = Distribution("debian", "12", "12 (bookworm)", "Debian GNU/Linux 12 (bookworm)")
LAYER = "sha256:" + "2" * 64
IMAGE = Image("ghcr.io/me/app:1", "sha256:" + "1" * 64, "amd64", (LAYER,))
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PACKAGES = [
    Package("deb", "libstdc++6", "1:12.2.0-14+deb12u1", "amd64", "gcc-12", "12.2.0-14+deb12u1"),
    Package("apk", "busybox", "1.36.1-r15", "x86_64", "busybox", "1.36.1-r15", "GPL-2.0-only"),
    Package("pypi", "Foo_Bar", "1.0+local", licence="BSD"),
    Package("pypi", "Foo_Bar", "1.0+local", licence="MIT"),
    Package("npm", "@babel/core", "7.0.0", licence="(MIT OR Apache-2.0)"),
]


def contents(*, distribution: Distribution | None = DEBIAN, unread: bool = True) -> Contents:
    installed = [Installed(package, (Place("/a", LAYER), Place("/b", LAYER))) for package in PACKAGES]
    return Contents(IMAGE, distribution, installed, [Unread("Java archive", 2, "/app/x.jar")] if unread else [])


@cache
def validator(name: str) -> Any:
    schemas = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    known = [(schema.get("$id", name), Resource.from_contents(schema)) for name, schema in schemas.items()]
    kind = jsonschema.validators.validator_for(schemas[name])
    return kind(schemas[name], registry=Registry().with_resources(known), format_checker=kind.FORMAT_CHECKER)


@pytest.mark.parametrize(("distribution", "unread"), [(DEBIAN, True), (None, False)])
def test_documents_are_what_the_schemas_want(distribution: Distribution | None, unread: bool) -> None:
    found = contents(distribution=distribution, unread=unread)
    validator("spdx-2.3.json").validate(spdx.document(found, PROVENANCE))
    validator("bom-1.6.SNAPSHOT.schema.json").validate(cyclonedx.document(found, PROVENANCE))


@pytest.mark.parametrize("name", ["spdx-2.3.json", "bom-1.6.SNAPSHOT.schema.json"])
def test_the_schemas_refuse_what_is_none(name: str) -> None:
    document = (spdx if "spdx" in name else cyclonedx).document(contents(), PROVENANCE)
    wrong = json.loads(json.dumps(document).replace("NOASSERTION", "").replace('"PACKAGE-MANAGER"', '"x"'))
    wrong["unknown"] = 1
    with pytest.raises(jsonschema.ValidationError):
        validator(name).validate(wrong)


def test_spdx_names_what_it_is_of() -> None:
    document = spdx.document(contents(), PROVENANCE)
    packages = {each["SPDXID"]: each for each in document["packages"]}
    assert len(packages) == len(document["packages"]) == len(PACKAGES) + 2
    assert all(re.fullmatch(r"SPDXRef-[a-zA-Z0-9.-]+", each) for each in packages)
    assert {each["relatedSpdxElement"] for each in document["relationships"]} == {*packages}
    gcc = next(each for each in packages.values() if each["name"] == "libstdc++6")
    assert gcc["sourceInfo"] == f"Built from gcc-12 12.2.0-14+deb12u1. Told by /a in {LAYER}, /b in {LAYER}"
    assert gcc["externalRefs"][0]["referenceLocator"].startswith("pkg:deb/debian/libstdc%2B%2B6@1:12.2.0")
    stated = [(each["licenseDeclared"], each.get("licenseComments")) for each in packages.values()]
    assert ("NOASSERTION", "Stated as: BSD") in stated
    assert ("GPL-2.0-only", None) in stated
    assert document["creationInfo"]["comment"] == "Found and not read: Java archive: 2, such as /app/x.jar"


def test_cyclonedx_names_what_it_is_of() -> None:
    document = cyclonedx.document(contents(), PROVENANCE)
    references = [each["bom-ref"] for each in document["components"]]
    assert len({*references}) == len(references) == len(PACKAGES) + 1
    assert document["dependencies"] == [{"ref": "image", "dependsOn": references}]
    babel = next(each for each in document["components"] if each["name"] == "core")
    assert (babel["group"], babel["purl"]) == ("@babel", "pkg:npm/%40babel/core@7.0.0")
    assert babel["licenses"] == [{"expression": "(MIT OR Apache-2.0)"}]
    assert {"name": "cove:layer", "value": LAYER} in babel["properties"]
    assert document["compositions"][0]["aggregate"] == "incomplete"


@pytest.mark.parametrize("form", [spdx, cyclonedx])
def test_only_the_time_is_another_the_next_time(form: Any) -> None:
    now, later = (
        json.dumps(form.document(contents(), Provenance(time, "0.1.0"))) for time in ("2026-01-02", "2026-01-03")
    )
    assert now != later
    assert now.replace("2026-01-02", "2026-01-03") == later
    other = json.dumps(form.document(contents(distribution=None), Provenance("2026-01-02", "0.1.0")))
    assert UUID.findall(now) == UUID.findall(later) != UUID.findall(other)


def test_the_time_is_that_of_source_date_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert provenance.now().time == "1970-01-02T00:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(CoveError, match="SOURCE_DATE_EPOCH is no number of seconds"):
        provenance.now()


@pytest.mark.parametrize(
    ("stated", "expression"),
    [
        ("mit and apache-2.0", "MIT AND Apache-2.0"),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", "GPL-2.0-or-later WITH Classpath-exception-2.0"),
        ("BSD", ""),
        ("LicenseRef-x", ""),
        ("MIT AND", ""),
        ("", ""),
    ],
)
def test_licences_are_spdxs_or_are_told_as_they_stand(stated: str, expression: str) -> None:
    assert licences.expression(stated) == expression


@pytest.mark.parametrize(
    ("package", "distribution", "url"),
    [
        (PACKAGES[0], None, "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64"),
        (PACKAGES[1], Distribution("alpine", "3.19.1", "", ""), "pkg:apk/alpine/busybox@1.36.1-r15?arch=x86_64&distro=alpine-3.19.1"),
        (PACKAGES[2], DEBIAN, "pkg:pypi/foo-bar@1.0%2Blocal"),
    ],
)  # fmt: skip
def test_package_urls(package: Package, distribution: Distribution | None, url: str) -> None:
    assert purl.of(package, distribution) == url


@pytest.mark.parametrize(
    ("kind", "name"), [("npm", "@foo/"), ("npm", "@foo//"), ("npm", "/"), ("deb", "/"), ("apk", "//"), ("pypi", "/")]
)
def test_a_name_that_no_package_can_have_is_told_without_an_url(kind: str, name: str) -> None:
    package = Package(kind, name, "1")
    assert purl.of(package, DEBIAN) is None
    found = Contents(IMAGE, DEBIAN, [Installed(package, (Place("/a", LAYER),)), *contents().packages], [])
    for schema, field, document in (
        ("spdx-2.3.json", "packages", spdx.document(found, PROVENANCE)),
        ("bom-1.6.SNAPSHOT.schema.json", "components", cyclonedx.document(found, PROVENANCE)),
    ):
        validator(schema).validate(document)
        assert name in [each["name"] for each in document[field]]
