"""What a scan finds: by ecosystem and source package, each vulnerability once, and honest about what was not looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cove.contents.package import Contents, Distribution, Package
from cove.contents.provenance import Provenance
from cove.progress import ignore
from cove.vulnerabilities import database, ecosystems, sarif
from cove.vulnerabilities.scan import Scan, scan
from cove.vulnerabilities.severity import Level, Severity
from osv_entries import ALPINE, CRITICAL, DEBIAN, LOW, affected, archive, deb, entry, image


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "home"))
    return tmp_path


def found(home: Path, contents: Contents, *entries: dict[str, Any]) -> Scan:
    return scan(contents, database.open_(archive(home / "all.zip", entries), ignore))


def names(result: Scan) -> list[tuple[str, str]]:
    return [(each.identifier, each.installed.package.name) for each in result.findings]


def release(identifier: str, version: str, words: str = "") -> Distribution:
    return Distribution(identifier, version, words, "")


@pytest.mark.parametrize(
    ("kind", "distribution", "ecosystem"),
    [
        ("deb", DEBIAN, "Debian:12"),
        ("deb", release("debian", "12.5"), "Debian:12"),
        ("deb", release("debian", ""), None),
        ("deb", release("ubuntu", "22.04", "22.04.4 LTS (Jammy Jellyfish)"), "Ubuntu:22.04:LTS"),
        ("deb", release("ubuntu", "23.10", "23.10 (Mantic Minotaur)"), "Ubuntu:23.10"),
        ("deb", release("raspbian", "12"), None),
        ("deb", None, None),
        ("apk", ALPINE, "Alpine:v3.19"),
        ("apk", release("alpine", "3.21_alpha20240923"), None),
        ("apk", release("wolfi", "20230201"), "Wolfi"),
        ("apk", release("chainguard", "20230214"), "Chainguard"),
        ("pypi", None, "PyPI"),
        ("npm", ALPINE, "npm"),
    ],
)
def test_ecosystems(kind: str, distribution: Distribution | None, ecosystem: str | None) -> None:
    assert ecosystems.of(Package(kind, "x", "1"), distribution) == ecosystem


def test_debians_entries_are_of_source_packages_and_their_versions(home: Path) -> None:
    contents = image(deb("libssl3", "3.0.11-1+b1", "openssl", "3.0.11-1"), deb("bash", "5.2-2"))
    result = found(
        home,
        contents,
        entry(
            "DEBIAN-CVE-1", affected("Debian:12", "openssl", "3.0.11-1+deb12u1"), upstream=["CVE-1"], severity=CRITICAL
        ),
        entry("DEBIAN-CVE-2", affected("Debian:12", "openssl", "3.0.11-1"), upstream=["CVE-2"]),
        entry("DEBIAN-CVE-3", affected("Debian:11", "openssl"), upstream=["CVE-3"]),
        entry("DEBIAN-CVE-4", affected("Debian:12", "libssl3"), upstream=["CVE-4"]),
        entry("DEBIAN-CVE-5", affected("Debian", "bash"), upstream=["CVE-5"]),
    )
    assert names(result) == [("CVE-1", "libssl3"), ("CVE-5", "bash")]
    [first, second] = result.findings
    assert (first.fixed, first.severity, first.others) == (
        "3.0.11-1+deb12u1",
        Severity(Level.CRITICAL, 9.8),
        ("DEBIAN-CVE-1",),
    )
    assert (second.fixed, second.severity.level) == ("", Level.UNKNOWN)


def test_alpines_entries_are_of_origins(home: Path) -> None:
    package = Package("apk", "busybox-binsh", "1.36.1-r15", "x86_64", "busybox", "1.36.1-r15")
    result = found(
        home, image(package, distribution=ALPINE), entry("CVE-1", affected("Alpine:v3.19", "busybox", "1.36.1-r16"))
    )
    assert names(result) == [("CVE-1", "busybox-binsh")]


def test_pypis_names_are_the_same_however_they_are_written(home: Path) -> None:
    result = found(home, image(Package("pypi", "Foo_Bar", "1.0")), entry("PYSEC-1", affected("PyPI", "foo.bar", "1.1")))
    assert names(result) == [("PYSEC-1", "Foo_Bar")]


def test_entries_that_are_one_vulnerability_are_one_finding(home: Path) -> None:
    one = affected("npm", "one", "2.0.0")
    result = found(
        home,
        image(Package("npm", "one", "1.0.0")),
        entry("GHSA-1", one, aliases=["CVE-1"], severity=LOW, summary="Short"),
        entry("X-1", one, aliases=["SNYK-1"]),
        entry("Y-1", one, aliases=["CVE-1", "SNYK-1"], database_specific={"severity": "HIGH"}),
        entry("GHSA-2", one, related=["CVE-1"]),
    )
    assert names(result) == [("CVE-1", "one"), ("GHSA-2", "one")]
    [first, _] = result.findings
    assert first.entries == ("GHSA-1", "X-1", "Y-1")
    assert first.others == ("GHSA-1", "SNYK-1", "X-1", "Y-1")
    assert (first.severity.level, first.summary) == (Level.HIGH, "Short")


def test_a_package_may_have_any_number_of_vulnerabilities(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing each with all that were found before would take longer than any test may."""
    known = database.open_(archive(home / "all.zip", [entry("CVE-1", affected("npm", "one"))]), ignore)
    [one] = known.affected("npm", "one")

    def stated(identifier: str, *aliases: str) -> database.Affected:
        return replace(one, entry=replace(one.entry, identifier=identifier, aliases=aliases))

    many = [stated(f"CVE-{number}") for number in range(40_000)]
    many += [stated(f"X-{number}", f"X-{number + 1}") for number in range(1000)]
    monkeypatch.setattr(known, "affected", lambda ecosystem, name: many)
    result = scan(image(Package("npm", "one", "1.0.0")), known)
    assert sorted(len(each.entries) for each in result.findings) == [1] * 40_000 + [1000]


def test_an_advisory_on_several_vulnerabilities_does_not_make_them_one(home: Path) -> None:
    one = affected("Debian:12", "one", "2")
    result = found(
        home,
        image(deb("one", "1")),
        entry("DEBIAN-CVE-1", one, upstream=["CVE-1"]),
        entry("DEBIAN-CVE-2", one, upstream=["CVE-2"]),
        entry("DSA-1", one, upstream=["CVE-1", "CVE-2"]),
        entry("CVE-2", severity=CRITICAL),
    )
    # What nobody has judged is judged as what it is about.
    assert [(each.identifier, each.severity.level) for each in result.findings] == [
        ("CVE-2", Level.CRITICAL),
        ("DSA-1", Level.CRITICAL),
        ("CVE-1", Level.UNKNOWN),
    ]


def test_a_severity_may_be_of_the_package(home: Path) -> None:
    result = found(
        home,
        image(deb("one", "1"), deb("two", "1")),
        entry(
            "CVE-1",
            affected("Debian:12", "one", severity=LOW),
            affected("Debian:12", "two", ecosystem_specific={"urgency": "unimportant"}),
        ),
    )
    assert [each.severity.level for each in result.findings] == [Level.LOW, Level.LOW]


def test_what_is_said_of_the_package_goes_before_what_is_said_of_the_vulnerability(home: Path) -> None:
    result = found(
        home,
        image(deb("one", "1"), deb("two", "1"), deb("three", "1")),
        entry(
            "DEBIAN-CVE-1",
            affected("Debian:12", "one", ecosystem_specific={"urgency": "unimportant"}),
            affected("Debian:12", "two", ecosystem_specific={"urgency": "not yet assigned"}),
            affected("Debian:12", "three", severity=LOW, ecosystem_specific={"urgency": "high"}),
            severity=CRITICAL,
        ),
    )
    assert {each.installed.package.name: each.severity.level for each in result.findings} == {
        "one": Level.LOW,
        "two": Level.CRITICAL,
        "three": Level.LOW,
    }


def test_the_worst_come_first(home: Path) -> None:
    packages = [Package("npm", name, "1.0.0") for name in "cba"]
    entries = [
        entry("CVE-1", affected("npm", "a"), severity=LOW),
        entry("CVE-2", affected("npm", "b"), affected("npm", "c"), severity=CRITICAL),
        entry("CVE-3", affected("npm", "a"), affected("npm", "b")),
    ]
    result = found(home, image(*packages), *entries)
    assert names(result) == [("CVE-2", "b"), ("CVE-2", "c"), ("CVE-1", "a"), ("CVE-3", "a"), ("CVE-3", "b")]
    assert [result.at_least(level) for level in (Level.CRITICAL, Level.HIGH, Level.LOW)] == [2, 2, 3]


def test_what_was_not_looked_at_is_told(home: Path) -> None:
    contents = image(deb("one", "1"), deb("two", "1"), Package("pypi", "x", "1"), Package("npm", "y", "latest"))
    result = found(home, contents, entry("CVE-1", affected("npm", "y", "1.0.0")))
    assert [(each.kind, each.ecosystem, each.packages) for each in result.unchecked] == [
        ("deb", "Debian:12", 2),
        ("pypi", "PyPI", 1),
    ]
    assert [(each.identifier, each.installed.package.name) for each in result.undecided] == [("CVE-1", "y")]
    other = found(home, image(deb("one", "1"), distribution=None), entry("CVE-1", affected("npm", "y")))
    assert [(each.kind, each.ecosystem, each.packages) for each in other.unchecked] == [("deb", None, 1)]


def test_sarif_is_what_its_schema_wants(home: Path) -> None:
    schema = json.loads((Path(__file__).parents[2] / "data" / "schemas" / "sarif-2.1.0.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    provenance = Provenance("2026-01-02T03:04:05Z", "0.1.0")
    result = found(
        home,
        image(Package("npm", "one", "1.0.0"), Package("npm", "two", "1.0.0"), deb("x", "1")),
        entry("CVE-1", affected("npm", "one", "2.0.0"), affected("npm", "two"), severity=CRITICAL, summary="Bad"),
        entry("CVE-2", affected("npm", "one"), severity=LOW),
        entry("CVE-3", affected("npm", "one")),
    )
    document = sarif.document(result, provenance)
    validator.validate(document)
    [run] = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["CVE-1", "CVE-2", "CVE-3"]
    assert [(each["ruleId"], rules[each["ruleIndex"]], each["level"]) for each in run["results"]] == [
        ("CVE-1", "CVE-1", "error"),
        ("CVE-1", "CVE-1", "error"),
        ("CVE-2", "CVE-2", "note"),
        ("CVE-3", "CVE-3", "warning"),
    ]
    first = run["results"][0]
    assert first["message"]["text"] == "one 1.0.0 has CVE-1 (critical); mended in 2.0.0. Bad"
    assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "var/lib/some%20where"
    assert run["tool"]["driver"]["rules"][0]["properties"]["security-severity"] == "9.8"
    assert len({each["partialFingerprints"]["vulnerability/v1"] for each in run["results"]}) == 4
    empty = sarif.document(found(home, image(), entry("CVE-1")), provenance)
    validator.validate(empty)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**document, "version": "1"})
