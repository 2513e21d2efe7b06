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


def test_of_what_an_engine_died() -> None:
    said = [
        "[ 12.1] cove: the engine has died (SIGKILL)",
        "cove: the engine has died (status 1)",
        "[13.0] something else",
    ]
    assert consolewords.engine_died(said) == "status 1"
    assert consolewords.engine_died(said[2:]) == ""
