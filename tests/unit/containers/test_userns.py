"""Ranges of subordinate ids, and what a remapped container's spec becomes."""

from __future__ import annotations

from pathlib import Path

import pytest
from coved.containers import userns


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "subuid").write_text("ann:200000:1000\nbob:300000:10\nann:400000:5\n# ann:1:1\n\nroot:500000:65536\n")
    (tmp_path / "subgid").write_text("ann:210000:1000\nstaff:310000:10\nroot:510000:65536\n")
    return tmp_path


def test_ranges_follow_each_other(etc: Path) -> None:
    remap = userns.parse("ann", etc)
    assert remap.uids == (
        {"containerID": 0, "hostID": 200000, "size": 1000},
        {"containerID": 1000, "hostID": 400000, "size": 5},
    )
    assert remap.gids == ({"containerID": 0, "hostID": 210000, "size": 1000},)


def test_a_group_of_its_own_and_numbers(etc: Path) -> None:
    assert userns.parse("bob:staff", etc).gids[0]["hostID"] == 310000
    assert userns.parse("0:0", etc).uids[0]["hostID"] == 500000


def test_default_needs_no_entry_but_takes_one(etc: Path) -> None:
    assert userns.parse("default", etc).uids == ({"containerID": 0, "hostID": 100000, "size": 65536},)
    for name in ("subuid", "subgid"):
        (etc / name).write_text("dockremap:7000:8\n")
    assert userns.parse("default", etc).gids == ({"containerID": 0, "hostID": 7000, "size": 8},)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("eve", 'no subuid ranges found for user "eve"'),
        ("bob", 'no subgid ranges found for group "bob"'),
        ("", "invalid userns-remap value: "),
        ("ann:", "invalid userns-remap value: ann:"),
    ],
)
def test_who_has_no_ranges(etc: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        userns.parse(text, etc)


@pytest.mark.parametrize("line", ["ann:0:10", "ann:5:0", "ann:4294967290:10", "ann:x:1", "ann:1:-1"])
def test_ranges_that_would_give_away_the_machine(etc: Path, line: str) -> None:
    (etc / "subuid").write_text(line + "\n")
    with pytest.raises(ValueError, match="is no range"):
        userns.parse("ann", etc)
