"""Lines of a Dockerfile beside an error or a warning, as buildx was seen to print them."""

from __future__ import annotations

import base64
import json

import pytest
from cove.build.excerpt import excerpt, lint, outline, targets
from cove.build.screen import Screen
from cove.build.status import Range, Source

DOCKERFILE = Source("Dockerfile.fail", b"FROM busybox\nRUN echo a\nRUN exit 3\nRUN echo never\n")
RULE = "--------------------\n"


def test_one_line_and_those_around_it() -> None:
    assert excerpt(DOCKERFILE, [Range(3, 3)]) == (
        f"Dockerfile.fail:3\n{RULE}"
        "   1 |     FROM busybox\n   2 |     RUN echo a\n   3 | >>> RUN exit 3\n   4 |     RUN echo never\n   5 |     \n"
        f"{RULE}"
    )
    assert excerpt(DOCKERFILE, [Range(1, 1)]).count("\n") == 1 + 1 + 3 + 1


def test_several_lines_have_fewer_around_them() -> None:
    assert excerpt(DOCKERFILE, [Range(2, 3)]) == (
        f"Dockerfile.fail:2\n{RULE}"
        "   1 |     FROM busybox\n   2 | >>> RUN echo a\n   3 | >>> RUN exit 3\n   4 |     RUN echo never\n"
        f"{RULE}"
    )


@pytest.mark.parametrize("ranges", [[], [Range(0, 0)], [Range(9, 9)], [Range(-3, 2)]])
def test_lines_that_are_not_there(ranges: list[Range]) -> None:
    assert excerpt(DOCKERFILE, ranges) == ""


def test_a_hostile_range_costs_nothing() -> None:
    assert excerpt(DOCKERFILE, [Range(1, 1 << 40)]).startswith("Dockerfile.fail:1\n")


def found(**more: object) -> str:
    source = {"filename": "Dockerfile", "data": base64.b64encode(DOCKERFILE.data).decode()}
    return json.dumps({"sources": [source], **more})


WARNING = {
    "ruleName": "MaintainerDeprecated",
    "url": "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/",
    "detail": "Maintainer instruction is deprecated in favor of using label",
    "location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]},
}


def test_warnings_of_a_check() -> None:
    text, error = lint(found(warnings=[WARNING]), "sub/Dockerfile")
    assert text.startswith(
        "Check complete, 1 warning has been found!\n\n"
        "WARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/\n"
        "Maintainer instruction is deprecated in favor of using label\n"
        f"sub/Dockerfile:2\n{RULE}   1 |     FROM busybox\n   2 | >>> RUN echo a\n"
    )
    assert not error
    assert lint(found(warnings=[WARNING, WARNING]), "")[0].startswith("Check complete, 2 warnings have been found!\n")


def test_a_check_without_findings_and_one_that_fails() -> None:
    assert lint("{}", "") == ("Check complete, no warnings found.\n", "")
    location = {"ranges": [{"start": {"line": 3}, "end": {"line": 3}}]}
    _, error = lint(found(buildError={"message": "unknown instruction: RUNN", "location": location}), "")
    assert error.startswith("unknown instruction: RUNN\nDockerfile:3\n")


@pytest.mark.parametrize("text", ["[]", "nonsense", ""])
def test_what_is_no_result_of_a_check(text: str) -> None:
    with pytest.raises(ValueError):
        lint(text, "")


def test_tables_of_a_dockerfile() -> None:
    assert targets(
        json.dumps({"targets": [{"name": "base"}, {"name": "app", "default": True, "description": "it"}]})
    ) == ("TARGET        DESCRIPTION\nbase          \napp (default) it\n")
    assert outline(json.dumps({"name": "app", "args": [{"name": "V", "value": "1", "description": "d"}]})) == (
        "TARGET: app\n\nBUILD ARG   VALUE   DESCRIPTION\nV           1       d\n\n"
    )


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        ([b"a\nb\nc\nd"], ["b", "c", "d"]),
        ([b"50%\r100%"], ["100%"]),
        ([b"abc\x1b[2Kx"], ["   x"]),
        ([b"abcdefghijkl"], ["abcdefghij", "kl"]),
        ([b"\x1b[3", b"1mred\x1b[0m"], ["red"]),
        (["naïve".encode()[:3], "naïve".encode()[3:]], ["naïve"]),
        ([b"one\ntwo\x1b[1A\rONE"], ["ONE", "two"]),
        ([b"\x1b[2J\x1b[Htop"], ["top"]),
        ([b"\x1b]0;title\x07ok\x1bP junk \x1b\\!"], ["ok!"]),
        ([b"\x1b[999999999999999999999Cx"], ["         x"]),
        ([b"a\x00\x07\x0b\x0cb"], ["ab"]),
    ],
)
def test_a_small_screen(written: list[bytes], lines: list[str]) -> None:
    screen = Screen(3, 10)
    for data in written:
        screen.write(data)
    assert screen.lines() == lines


def test_a_string_without_an_end_does_not_swallow_all_that_follows() -> None:
    screen = Screen(3, 10)
    screen.write(b"\x1b]0;" + b"y" * 600 + b"\nend")
    assert screen.lines()[-1] == "end"
