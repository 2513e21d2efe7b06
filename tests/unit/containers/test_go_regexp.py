"""Go's regular expressions in Python: the same matches, and Go's errors for what is none."""

from __future__ import annotations

import re

import pytest
from coved.containers.go_regexp import translate


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("^com\\.", ["com.x"], ["comx", "a.com.x"]),
        ("a|b$", ["a", "xb"], ["bx", "b\n"]),
        ("^\\Qa.b\\E$", ["a.b"], ["axb"]),
        ("(?P<n>x)(?<m>y)", ["xy"], ["x"]),
        ("(?i)ABC", ["abc", "xaBc"], ["ab"]),
        ("(?i:a)b", ["Ab"], ["AB"]),
        ("^[[:alpha:]_]+\\z", ["a_B"], ["a1", "a\n"]),
        ("^[^[:digit:]]$", ["x"], ["1"]),
        ("^[]a]+$", ["]a"], ["b"]),
        ("^[&&~[|]+$", ["&~[|"], ["x"]),
        ("\\x{41}\\x42", ["AB"], ["ab"]),
        ("^\\w\\d$", ["a1"], ["é1", "a٣"]),
        ("a{2,3}?b", ["aab"], ["ab"]),
        ("(?m)^b$", ["a\nb\nc"], ["ab"]),
        ("a#b c", ["a#b c"], ["a"]),
    ],
)
def test_matches(pattern: str, matching: list[str], others: list[str]) -> None:
    expression = re.compile(translate(pattern), re.ASCII)
    assert [text for text in (*matching, *others) if expression.search(text)] == matching


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a++", "invalid nested repetition operator: `++`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        ("\\p{Foo}", "invalid character class range: `\\p{Foo}`"),
        ("\\8", "invalid escape sequence: `\\8`"),
        ("\\Z", "invalid escape sequence: `\\Z`"),
        ("(?<=a)", "invalid or unsupported Perl syntax: `(?<=`"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("|*", "missing argument to repetition operator: `*`"),
    ],
)
def test_errors(pattern: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        translate(pattern)
    assert str(error.value) == f"error parsing regexp: {message}"
