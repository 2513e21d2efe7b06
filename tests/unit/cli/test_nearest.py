"""What a mistyped command may have been meant to be."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cove.cli.nearest import distance, nearest, suggestion


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [
        ("", "", 0), ("ps", "ps", 0), ("sl", "ls", 1), ("strat", "start", 1), ("imgaes", "images", 1),
        ("machin", "machine", 1), ("abc", "xyz", 3), ("", "ab", 2),
    ],
)  # fmt: skip
def test_the_distance_counts_a_swap_as_one_step(one: str, other: str, steps: int) -> None:
    assert distance(one, other) == distance(other, one) == steps


def test_the_nearest_come_first_and_far_ones_not_at_all() -> None:
    assert nearest("stats", ["start", "stat", "status", "run"]) == ["stat", "status", "start"]
    assert nearest("comp", ["completion", "compose", "cp"]) == ["completion", "compose"]
    assert nearest("x", ["ps", "rm"]) == []
    assert nearest("kubernetes", ["network"]) == []
    assert suggestion("kubernetes", ["network"]) == ""


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("machin start", "machine"), ("machine strat", "start"), ("imgaes", "images"), ("image lss", "ls"),
        ("config ste", "set"),
    ],
)  # fmt: skip
def test_mistyped_commands_are_answered_with_what_was_meant(words: str, meant: str) -> None:
    done = subprocess.run([sys.executable, "-m", "cove", *words.split()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    first, *rest = done.stderr.split("\n\n")
    assert first.startswith("cove: unknown command: cove ")
    assert rest[0].splitlines()[0] in ("Did you mean this?", "Did you mean one of these?")
    assert f"  {meant}" in rest[0].splitlines()
    assert "--help' for more information" in rest[-1]
