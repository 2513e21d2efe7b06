"""Words of somebody else, as a terminal may have them."""

from __future__ import annotations

import pytest
from cove.errors import CoveError, RemoteError
from cove.plain import printable


@pytest.mark.parametrize(
    ("text", "also", "shown"),
    [
        ("naïve 日本 'x'", "", "naïve 日本 'x'"),
        ("\x1b]0;owned\x07\x1b[2J", "", "?]0;owned??[2J"),
        ("a\nb\tc\rd\x9be\u202ef", "", "a?b?c?d?e?f"),
        ("a\nb\tc\r", "\n\t", "a\nb\tc?"),
    ],
)
def test_what_a_terminal_would_do_is_left_out(text: str, also: str, shown: str) -> None:
    assert printable(text, also) == shown


def test_an_error_of_another_computer_does_nothing_to_the_terminal() -> None:
    error = RemoteError("it says \x1b[2J\nand more", "try:\n  this\x07")
    assert (str(error), error.message, error.hint) == (*["it says ?[2J and more"] * 2, "try:\n  this?")
    assert isinstance(error, CoveError)
