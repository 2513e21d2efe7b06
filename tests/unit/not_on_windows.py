"""What of the client's tests Windows leaves out, and why: all of a file, or tests by their names. (The tests of the engine are Linux's, all of
them; tests/platforms/test_windows_units.py says which folders are meant for Windows.)"""

from __future__ import annotations

from pathlib import Path

UNIT = Path(__file__).parent
LEFT_OUT: dict[str, str | dict[str, str]] = {
    "cli/test_stream.py": {"test_an_input_that_does_not_block_is_waited_for": "X"}, "support/test_verify.py": {"test_nothing_of_the_users_machines_is_touched": "Y"},
}
"""By file: the reason, or a reason for each test."""


def left_out(file: Path, test: str = "") -> str:
    """Why; "" for what is not left out."""
    found = LEFT_OUT.get(file.relative_to(UNIT).as_posix(), {})
    if isinstance(found, str):
        return "" if test else found
    return found.get(test, "")
