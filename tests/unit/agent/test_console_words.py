"""What the host reads from a guest's console."""

from __future__ import annotations

from cove.agent import consolewords


def test_the_engines_last_end_is_found_among_other_lines() -> None:
    said = [
        "[   12.1] cove: engine ended with status 1: coved: first; starting it again (its log: /x)",
        "cove: engine ended with status 1: coved: write /x: no space left on device; starting it again (its log: /x)",
        "cove: this VM has no power button",
    ]
    assert consolewords.engines_end(said) == ("engine ended with status 1: coved: write /x: no space left on device")
    assert consolewords.engines_end(said[2:]) == ""
