"""Help texts are wrapped where docker's are, and command lines refused in its words."""

from __future__ import annotations

import pytest
from cove.cli import flags
from cove.cli.errors import UsageError
from cove.cli.flags import describe, integer, several, switch, text, wrap

# As `docker cp --help` and `docker commit --help` print them on 80, 60 and 100 columns.
QUIET = "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached"
AUTHOR = 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'


@pytest.mark.parametrize(
    ("note", "column", "width", "lines"),
    [
        (
            QUIET,
            22,
            79,
            [
                "Suppress progress output during copy. Progress",
                "output is automatically suppressed if no terminal",
                "is attached",
            ],
        ),
        (AUTHOR, 25, 79, ['Author (e.g., "John Hannibal Smith', '<hannibal@a-team.com>")']),
        (AUTHOR, 25, 99, [AUTHOR]),
        # Five columns are held back, except for what fits to its end.
        ("a" * 20 + " " + "b" * 20, 10, 50, ["a" * 20, "b" * 20]),
        ("a" * 20 + " " + "b" * 18, 10, 50, ["a" * 20 + " " + "b" * 18]),
        ("one\ntwo three", 10, 40, ["one\n          two three"]),
        ("x" * 60, 10, 40, ["x" * 60]),
    ],
)
def test_texts_are_wrapped_by_words(note: str, column: int, width: int, lines: list[str]) -> None:
    assert wrap(note, column, width) == ("\n" + " " * column).join(lines)


def test_with_little_room_a_text_starts_on_its_own_line() -> None:
    assert wrap("some words that do not fit", 30, 50).startswith("\n" + " " * 16 + "some words")
    assert wrap("a\nb", 30, 20) == "a\n" + " " * 16 + "b"


def test_flags_are_described_with_their_defaults() -> None:
    assert describe([switch("b", "", "B", True), text("a", "x", "A", "v"), integer("n", "", "N", -1)]) == (
        '  -x, --a string   A (default "v")\n      --b          B (default true)\n      --n int      N (default -1)'
    )
    assert describe([several("opt", "o", "Options", kind="map")]) == "  -o, --opt map   Options (default map[])"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-qz=3"], "unknown shorthand flag: 'z' in -z=3"),
        (["-qt"], "flag needs an argument: 't' in -t"),
        (["--text"], "flag needs an argument: --text"),
        (["--nosuch"], "unknown flag: --nosuch"),
        (["-q=x"], 'invalid argument "x" for "-q, --quiet" flag: strconv.ParseBool: parsing "x": invalid syntax'),
    ],
)
def test_refused_words(words: list[str], message: str) -> None:
    known = (switch("quiet", "q"), text("text", "t"))
    with pytest.raises(UsageError) as told:
        flags.parse(words, known)
    assert told.value.message == message


def test_help_is_asked_for_even_where_it_is_listed() -> None:
    with pytest.raises(flags.HelpAsked):
        flags.parse(["--help"], (switch("help", "", "Print usage"),))
