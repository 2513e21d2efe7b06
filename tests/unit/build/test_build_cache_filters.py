"""What of the build cache is meant, and how much of it may stay."""

from __future__ import annotations

from typing import Any

import pytest
from coved.build.cache.filters import matches, of_api, parse
from coved.build.upkeep import Entry, Keep
from coved.errors import InvalidParameter
from coved.filters import Filters


def entry(id: str = "one", **fields: Any) -> Entry:
    known: dict[str, Any] = {
        "kind": "regular",
        "description": "RUN a, b",
        "parents": (),
        "size": 1,
        "in_use": False,
        "shared": False,
        "created_ns": 1,
        "used_ns": 2,
        "uses": 3,
    }
    return Entry(id, **{**known, **fields})


ENTRIES = [
    entry("one", in_use=True),
    entry("two", kind="exec.cachemount", description="cached mount /x"),
    entry("three", parents=("one",), shared=True, description="COPY"),
]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, ["one", "two", "three"]),
        ({"type": ["exec.cachemount"]}, ["two"]),
        ({"type": ["regular"], "inuse": []}, ["one"]),
        ({"id": ["t"]}, ["two", "three"]),
        ({"parent": ["one"]}, ["three"]),
        ({"description": ["RUN a, b"]}, ["one"]),
        ({"description": ["RUN a"]}, []),
        ({"shared": ["true"]}, ["three"]),
        ({"private": []}, ["one", "two"]),
        ({"label": ["a=b"]}, []),
        ({"label": [""]}, []),
        ({"label!": ["a=b"]}, ["one", "two", "three"]),
    ],
)
def test_the_filters_of_the_api(given: dict[str, list[str]], meant: list[str]) -> None:
    filters, until = of_api(Filters(given))
    assert [each.id for each in ENTRIES if matches(filters, each.fields)] == meant
    assert until == ""


@pytest.mark.parametrize("name", ["until", "unused-for"])
def test_a_time(name: str) -> None:
    assert of_api(Filters({name: ["24h"], "inuse": []}))[1] == "24h"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nonsense": ["x"]}, "invalid filter 'nonsense'"),
        ({"nonsense": []}, "invalid filter 'nonsense'"),
        ({"mutable": []}, "invalid filter 'mutable'"),
        ({"type": ["regular", "internal"]}, "filters expect only one value"),
        ({"until": ["1h", "2h"]}, "filters expect only one value"),
        ({"until": ["1h"], "unused-for": ["1h"]}, 'conflicting filters: "until" and "unused-for"'),
    ],
)
def test_what_is_refused(given: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        of_api(Filters(given))
    assert str(refused.value) == message


def test_filters_are_read_also_when_there_is_nothing() -> None:
    with pytest.raises(InvalidParameter, match="failed to parse"):
        parse(["type=regular"])
    assert parse(["", ""]) == []


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("type==regular,shared", ["three"]),
        ("type!=regular", ["two"]),
        ("description~=mount", ["two"]),
        ('description=="COPY"', ["three"]),
        ("nonsense", []),
        ("nonsense==", []),
        ("nonsense~=", []),
        ("nonsense!=x", ["one", "two", "three"]),
        ("immutable", ["one", "three"]),
    ],
)
def test_the_filters_of_containerd(text: str, meant: list[str]) -> None:
    assert [each.id for each in ENTRIES if matches(parse([text]), each.fields)] == meant


@pytest.mark.parametrize(
    ("keep", "stays"),
    [
        (Keep(), None),
        (Keep(reserved=30), 30),
        (Keep(max_used=30), 30),
        (Keep(reserved=40, max_used=30), 40),
        (Keep(min_free=20), 100),
        (Keep(min_free=60), 90),
        (Keep(min_free=60, reserved=95), 95),
        (Keep(min_free=60, max_used=30), 30),
        (Keep(min_free=130, max_used=30), 20),
        (Keep(min_free=500), 0),
    ],
)
def test_how_much_stays(keep: Keep, stays: int | None) -> None:
    assert keep.limit(total=100, free=50) == stays
