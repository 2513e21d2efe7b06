"""Whether a version is affected, by the events of an entry's ranges and its list of versions."""

from __future__ import annotations

from typing import Any

import pytest
from cove.vulnerabilities.affected import judge

Event = dict[str, str]


def ranges(*events: Event, kind: str = "ECOSYSTEM") -> list[dict[str, Any]]:
    return [{"type": kind, "events": list(events)}]


def affected(kind: str, version: str, *events: Event) -> bool:
    return judge(kind, version, ranges(*events), ()).affected


TWO = ({"introduced": "1.0"}, {"fixed": "1.5"}, {"introduced": "2.0"}, {"fixed": "2.3"})


@pytest.mark.parametrize(
    ("version", "events", "hit"),
    [
        ("0.1", TWO, False),
        ("1.0", TWO, True),
        ("1.4.9", TWO, True),
        ("1.5", TWO, False),
        ("1.9", TWO, False),
        ("2.0", TWO, True),
        ("2.2", tuple(reversed(TWO)), True),
        ("2.3", TWO, False),
        ("0.0.0-1", ({"introduced": "0"},), True),
        ("99.0.0", ({"introduced": "0"},), True),
        ("1.2", ({"introduced": "0"}, {"last_affected": "1.2"}), True),
        ("1.2.1", ({"introduced": "0"}, {"last_affected": "1.2"}), False),
        ("1.2", ({"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "1.2"}, {"fixed": "1.3"}), True),
        ("1.2", ({"introduced": "0"}, {"limit": "1.2"}), False),
        ("1.1", ({"introduced": "0"}, {"limit": "1.2"}, {"limit": "0.5"}), True),
        ("1.1", ({"introduced": "0"}, {"limit": "*"}), True),
        ("1.1", (), False),
    ],
)
def test_events(version: str, events: tuple[Event, ...], hit: bool) -> None:
    assert affected("npm", version, *events) == hit


def test_versions_are_compared_as_the_ecosystem_does() -> None:
    events = ({"introduced": "0"}, {"fixed": "1.0-1+deb12u1"})
    assert affected("deb", "1.0-1", *events)
    assert affected("deb", "1.0~rc1-9", *events)
    assert not affected("deb", "1:0.1-1", *events)
    assert affected("apk", "1.36.1-r9", {"introduced": "0"}, {"fixed": "1.36.1-r10"})
    assert affected("pypi", "2.0rc1", {"introduced": "0"}, {"fixed": "2.0"})


def test_a_version_of_the_list_is_affected_whatever_the_ranges_say() -> None:
    assert judge("deb", "1.0-1", (), ["1.0-1"]).affected
    assert not judge("deb", "1.0-2", (), ["1.0-1"]).affected
    assert judge("pypi", "1.0.0", (), ["not one", "1.0"]).affected
    assert judge("npm", "1.0.0", ranges({"introduced": "2.0.0"}), ["1.0.0"]).affected


def test_commits_say_nothing_of_a_package() -> None:
    assert not judge("npm", "1.0.0", ranges({"introduced": "0"}, kind="GIT"), ()).affected


@pytest.mark.parametrize(
    ("kind", "version", "event"),
    [("npm", "latest", "1.0.0"), ("npm", "1.0.0", "abc"), ("apk", "1.0", "x"), ("pypi", "1.0", "2.0-x-y")],
)
def test_what_cannot_be_compared_is_not_decided(kind: str, version: str, event: str) -> None:
    verdict = judge(kind, version, ranges({"introduced": "0"}, {"fixed": event}), ())
    assert (verdict.affected, verdict.undecided) == (False, True)
    assert judge(kind, version, ranges({"introduced": "0"}, {"fixed": event}), [version]).affected


def test_the_next_version_that_is_mended_comes_first() -> None:
    found = judge("npm", "1.1.0", [*ranges(*TWO), *ranges({"introduced": "0"}, {"fixed": "1.2.0"})], ())
    assert found.fixed == ("1.2.0", "1.5", "2.3")
    assert judge("npm", "2.1.0", ranges(*TWO), ()).fixed == ("2.3",)
