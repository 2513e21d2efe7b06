"""Which packages a system needs, from indexes as Debian has them."""

from __future__ import annotations

import pytest
from cove.debian import releases
from cove.debian.index import Index, Relation, parse_relations
from cove.debian.resolver import resolve
from cove.errors import CoveError


def index(*packages: str, archive: str = "debian", into: Index | None = None) -> Index:
    """An index of packages told as "name version; Field: value; ..."."""
    stanzas = []
    for package in packages:
        head, *fields = package.split("; ")
        name, _, version = head.partition(" ")
        stanzas.append("\n".join([f"Package: {name}", f"Version: {version or '1'}", *fields, "Size: 1"]))
    result = into or Index()
    result.add("\n\n".join(stanzas) + "\n", archive)
    return result


def names(found: Index, *wanted: str) -> list[str]:
    return [offer.name for offer in resolve(found, wanted)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("libc6", [[Relation("libc6")]]),
        ("libc6 (>= 2.41~)", [[Relation("libc6", ">=", "2.41~")]]),
        ("a | b (<< 1:2), c:any", [[Relation("a"), Relation("b", "<<", "1:2")], [Relation("c")]]),
        ("python3:any (>= 3.2)", [[Relation("python3", ">=", "3.2")]]),
        ("", []),
    ],
)
def test_relationships(text: str, expected: list[list[Relation]]) -> None:
    assert parse_relations(text) == expected


@pytest.mark.parametrize("text", ["a (>> )", "a b", "(= 1)", "a | ", "a (~ 1)"])
def test_what_is_no_relationship(text: str) -> None:
    with pytest.raises(ValueError, match="no relationship"):
        parse_relations(text)


def test_required_packages_are_there_unasked_and_others_are_not() -> None:
    found = index("base; Priority: required", "shell; Priority: optional; Essential: yes", "other; Priority: important")
    assert names(found) == ["base", "shell"]


def test_dependencies_are_followed() -> None:
    found = index("a; Depends: b, c (>= 2)", "b; Pre-Depends: d", "c 2", "d", "e")
    assert names(found, "a") == ["a", "b", "c", "d"]


def test_packages_may_depend_on_one_another() -> None:
    assert names(index("a; Depends: b", "b; Depends: a"), "a") == ["a", "b"]


def test_the_first_alternative_that_is_there_is_taken() -> None:
    assert names(index("a; Depends: gone | b | c", "b", "c"), "a") == ["a", "b"]


def test_an_alternative_that_is_there_already_is_taken_before_the_first() -> None:
    found = index("a; Depends: gawk | awk", "gawk; Provides: awk", "mawk; Priority: required; Provides: awk")
    assert names(found, "a") == ["a", "mawk"]


def test_what_is_asked_for_decides_alternatives_whatever_its_name() -> None:
    found = index("init; Depends: usrmerge | usr-is-merged", "usrmerge; Depends: perl", "usr-is-merged", "perl")
    assert names(found, "init", "usr-is-merged") == ["init", "usr-is-merged"]


def test_what_provides_a_name_is_taken_by_importance() -> None:
    found = index(
        "a; Depends: virtual",
        "one; Provides: virtual; Priority: optional",
        "two; Provides: x, virtual (= 3); Priority: standard",
    )
    assert names(found, "a") == ["a", "two"]


@pytest.mark.parametrize(
    ("wanted", "provided", "enough"),
    [
        ("v (>= 2)", "v (= 3)", True),
        ("v (>= 2)", "v (= 1)", False),
        ("v (>= 2)", "v", False),
        ("v", "v", True),
        ("v (= 2-1)", "v (= 2-1)", True),
        ("v (<< 2)", "v (= 2~rc1)", True),
        ("v (>> 2)", "v (= 2)", False),
        ("v (<= 2)", "v (= 2)", True),
    ],
)
def test_versions_of_what_is_provided(wanted: str, provided: str, enough: bool) -> None:
    found = index(f"a; Depends: {wanted}", f"b; Provides: {provided}")
    if enough:
        assert names(found, "a") == ["a", "b"]
    else:
        with pytest.raises(CoveError, match="a 1 depends on v"):
            names(found, "a")


def test_the_newest_of_all_suites_is_taken() -> None:
    found = index("a 1.10-1", "a 1.9-1")
    index("a 1.10-1+deb13u1", archive="debian-security", into=found)
    index("a 1.2", into=found)
    (offer,) = resolve(found, ["a"])
    assert (offer.version, offer.archive) == ("1.10-1+deb13u1", "debian-security")


def test_packages_that_exclude_one_another_are_told() -> None:
    with pytest.raises(CoveError, match=r"a 1 cannot be installed beside b 1"):
        names(index("a; Depends: b; Breaks: b (<< 2)", "b 1"), "a")
    assert names(index("a; Depends: b; Breaks: b (<< 2)", "b 2"), "a") == ["a", "b"]


def test_a_package_may_exclude_others_that_provide_what_it_does() -> None:
    assert names(index("a; Provides: mta; Conflicts: mta"), "a") == ["a"]


def test_what_is_not_there_is_told() -> None:
    with pytest.raises(CoveError, match="no package apt"):
        names(index("a"), "apt")
    with pytest.raises(CoveError, match=r"a 1 depends on b \(>= 2\) \| c, which"):
        names(index("a; Depends: b (>= 2) | c", "b 1"), "a")
    with pytest.raises(CoveError, match="cannot be understood"):
        names(index("a; Depends: b ("), "a")


@pytest.mark.parametrize(
    ("name", "tag", "number", "slim"),
    [
        ("debian:13", "debian:13", 13, False),
        ("debian:trixie", "debian:trixie", 13, False),
        ("debian:13-slim", "debian:13-slim", 13, True),
        ("debian:bookworm-slim", "debian:bookworm-slim", 12, True),
        ("debian", "debian:latest", 13, False),
        ("debian:latest", "debian:latest", 13, False),
        ("docker.io/library/debian:12", "debian:12", 12, False),
        ("library/debian:12", "debian:12", 12, False),
    ],
)
def test_names(name: str, tag: str, number: int, slim: bool) -> None:
    wanted = releases.parse(name)
    assert (wanted.tag, wanted.release.number, wanted.slim) == (tag, number, slim)


@pytest.mark.parametrize(
    "name",
    [
        "debian:11",
        "debian:13-fat",
        "debian:13-",
        "debian:latest-slim",
        "ubuntu:24.04",
        "debian@sha256:1",
        "",
        "x/debian:13",
    ],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(CoveError, match="no image that can be made") as raised:
        releases.parse(name)
    assert "debian:13" in raised.value.hint
