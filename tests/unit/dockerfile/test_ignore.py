"""What .dockerignore leaves out of a context."""

from __future__ import annotations

import time

import pytest
from coved.dockerfile.automaton import Automaton
from coved.dockerfile.ignore import Matcher, read_ignore
from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.wildcards import Wildcard, clean, has_wildcards, split, tokens
from hypothesis import given
from hypothesis import strategies as st


def test_reading_the_file() -> None:
    data = "\ufeff# comment\r\n /absolute/path \n\n! ./kept/../taken/ \n  # no comment\n!\na//b/\r\n/\n.\n".encode()
    assert read_ignore(data) == ["absolute/path", "!taken", "# no comment", "!", "a/b", "/", "."]
    assert read_ignore(b"#comment\n") == []
    assert read_ignore(b"\xff*\n") == ["�*"]


@pytest.mark.parametrize(
    ("pattern", "matched", "others"),
    [
        ("file", ["file", "file/below", "file/a/b"], ["files", "a/file"]),
        ("a/b", ["a/b", "a/b/c"], ["a", "b", "x/a/b"]),
        ("*", ["a", "a/b", ".hidden"], []),
        ("*.py", ["x.py", ".py", "x.py/below"], ["a/x.py", "x.pyc"]),
        ("*/x", ["a/x", "a/x/y"], ["x", "a/b/x"]),
        ("a?c", ["abc", "aäc"], ["ac", "a/c", "abbc"]),
        ("**", ["a", "a/b/c"], []),
        ("**/x", ["x", "a/x", "a/b/x", "a/x/y"], ["ax", "a/xy"]),
        ("**x", ["x", "ax", "a/bx", "a/bx/y"], ["xa"]),
        ("**x*", ["x", "xy", "a/xy"], ["ax", "a/bx"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab"]),
        ("a**", ["a", "ab", "a/b", "ab/c"], ["ba"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b", "a/x/b/c"], ["a/xb", "b", "a"]),
        ("a**b", ["ab", "ax/b", "a/b", "a/x/b"], ["axb", "a"]),
        ("**/a/**/b", ["a/b", "x/a/y/b", "a/a/b/b"], ["b/a", "xa/b"]),
        ("**/*.txt", ["a.txt", "x/y/a.txt"], ["a.txtx"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "x"]),
        ("[^a-c]x", ["dx", "/x"], ["ax"]),
        ("a[^b]c", ["a/c", "axc"], ["abc"]),
        ("a[.-0]c", ["a/c", "a.c"], ["a1c"]),
        ("a[z-b]c", [], ["azc", "abc"]),
        ("a[^z-b]c", ["azc", "abc"], ["ac"]),
        ("[a\\]]x", ["]x", "ax"], ["\\x"]),
        ("[\\^^]", ["^"], ["a"]),
        ("\\*x", ["*x"], ["ax", "\\*x"]),
        ("a.b+c(d)|{e}$", ["a.b+c(d)|{e}$"], ["aXb"]),
        ("a^b*", ["a^bc"], ["ab"]),
        ("a/./b//c/..", ["a/b"], ["a"]),
        (" spaced ", ["spaced"], []),
        (".", [], ["a", "."]),
        ("", [], ["a", ""]),
        ("/a", [], ["a"]),
    ],
)
def test_patterns(pattern: str, matched: list[str], others: list[str]) -> None:
    matcher = Matcher([pattern])
    assert [path for path in matched if not matcher.matches(path)] == []
    assert [path for path in others if matcher.matches(path)] == []


@pytest.mark.parametrize(
    ("patterns", "path", "out"),
    [
        (["*.go", "!a.go"], "a.go", False),
        (["!a.go", "*.go"], "a.go", True),
        (["docs", "!docs/README.md"], "docs/README.md", False),
        (["docs", "!docs/README.md"], "docs/other", True),
        (["docs", "!docs/keep", "docs/keep/not"], "docs/keep/not/x", True),
        (["**", "!a/b"], "a/b/c/d", False),
        (["a", "!a", "a"], "a/x", True),
        (["**/f", "!**/d"], "d/f", True),
        (["**/f", "**/d", "!**/d"], "d/f", False),
    ],
)
def test_the_last_match_decides(patterns: list[str], path: str, out: bool) -> None:
    assert Matcher(patterns).matches(path) is out


@pytest.mark.parametrize(
    ("patterns", "directory", "skipped"),
    [
        (["a"], "a", True),
        (["a"], "b", False),
        (["a/b"], "a", False),
        (["a", "!a/b/c"], "a", False),
        (["a", "!a/b/c"], "a/b", False),
        (["a", "!a/b/c"], "a/x", True),
        (["a", "!b"], "a", True),
        (["a", "!**/keep"], "a", False),
        (["!a/b", "a"], "a", True),
        (["a", "!a/*x*/y"], "a/bxb", False),
        (["a", "!a/*x*/y"], "a/bb", True),
        (["*"], ".", False),
    ],
)
def test_directories_that_hold_nothing_to_keep(patterns: list[str], directory: str, skipped: bool) -> None:
    assert Matcher(patterns).may_skip(directory) is skipped


@pytest.mark.parametrize("pattern", ["[", "a[", "[]a]", "[^]", "[a-]", "[-a]", "a\\", "[a", "[a\\", "![", "a/[b-"])
def test_no_patterns(pattern: str) -> None:
    with pytest.raises(DockerfileError, match="syntax error in pattern"):
        Matcher([pattern])


def test_an_exclamation_mark_alone() -> None:
    with pytest.raises(DockerfileError, match='illegal exclusion pattern: "!"'):
        Matcher(["a", "!"])
    assert Matcher(["a", "!b"]).exclusions
    assert not Matcher(["a"]).exclusions


_pattern = st.text("ab*?/[]^-\\!.", max_size=12)
_path = st.lists(st.text("ab^.", min_size=1, max_size=4), min_size=1, max_size=4).map("/".join)


@given(_pattern, _path)
def test_both_ways_of_matching_agree(pattern: str, path: str) -> None:
    """Expressions do most of it, the automaton what would make them slow."""
    try:
        found = tokens(clean(pattern), deep=True)
        matcher = Matcher([clean(pattern)])
    except DockerfileError:
        return
    if path != "." and pattern.strip() and not clean(pattern).startswith("!"):
        assert matcher.matches(path) is any(end == len(path) or path[end] == "/" for end in Automaton(found).ends(path))


@given(_pattern, _path, st.booleans())
def test_both_ways_of_matching_sources_agree(pattern: str, path: str, deep: bool) -> None:
    try:
        wildcard = Wildcard(pattern, deep=deep)
    except DockerfileError:
        return
    assert wildcard.matches(path) is Automaton(tokens(pattern, deep=deep)).matches(path)


@given(st.lists(_pattern, max_size=5), _path, _path)
def test_what_is_skipped_holds_nothing_to_keep(patterns: list[str], directory: str, below: str) -> None:
    try:
        matcher = Matcher(patterns)
    except DockerfileError:
        return
    if matcher.may_skip(directory):
        assert matcher.matches(directory)
        assert matcher.matches(f"{directory}/{below}")


@pytest.mark.parametrize(
    "pattern",
    ["*a" * 20 + "b", "**/" + "a*/" * 10 + "b", "/".join(["**", "*a*"] * 15), "a**" * 10 + "x", "**/*" * 12 + "z"],
)
def test_hostile_patterns_take_no_longer(pattern: str) -> None:
    matcher = Matcher([pattern, "!q"])
    start = time.perf_counter()
    for path in ("a" * 4000, "a/" * 300 + "a", "ab" * 500 + "/a" * 100):
        matcher.matches(path)
        matcher.may_skip(path)
    assert time.perf_counter() - start < 5


def test_many_paths() -> None:
    patterns = (
        "node_modules **/*.pyc .git **/node_modules/** *.md !README.md docs/**/*.html build **/.DS_Store a?c/[a-z]*"
    )
    matcher = Matcher(patterns.split() + [f"folder{i}/*.tmp" for i in range(10)])
    paths = [f"source/package{i % 50}/module{i % 7}/file{i}.{'pyc' if i % 3 else 'py'}" for i in range(20_000)]
    start = time.perf_counter()
    assert sum(map(matcher.matches, paths)) == sum(path.endswith(".pyc") for path in paths)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("pattern", "deep", "path", "matched"),
    [
        ("a*", False, "abc", True),
        ("a*", False, "a/b", False),
        ("**/x", False, "a/x", True),
        ("**/x", False, "a/b/x", False),
        ("**/x", True, "a/b/x", True),
        ("**/x", True, "x", True),
        ("x", True, "x/y", False),
        ("[a-b]?\\*", False, "az*", True),
    ],
)
def test_wildcards_of_sources(pattern: str, deep: bool, path: str, matched: bool) -> None:
    assert Wildcard(pattern, deep=deep).matches(path) is matched


def test_where_a_wildcard_may_still_match() -> None:
    wildcard = Wildcard("a/**/b*/c", deep=True)
    assert [wildcard.may_match_below(path) for path in ("a", "a/x/y", "x")] == [True, True, False]
    assert [Wildcard("a/b*").may_match_below(path) for path in ("a", "a/b")] == [True, False]


def test_the_folder_before_the_wildcards() -> None:
    assert split("a/b/c*/d") == ("a/b", "c*/d")
    assert split("/x*") == ("/", "x*")
    assert split("*") == ("", "*")
    assert split("a/b") == ("a/b", "")
    assert has_wildcards("a[b]")
    assert not has_wildcards("a\\*b\\?\\[")
