"""How builds name git repositories. Cases after BuildKit's own (dfgitutil, gitutil)."""

from __future__ import annotations

import pytest
from coved.build.errors import BuildError
from coved.build.remote.git_url import GitRef, is_commit, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://example.com/", None),
        ("https://example.com/foo", None),
        ("https://example.com/foo.git", GitRef("https://example.com/foo.git")),
        ("https://example.com/foo.git#deadbeef", GitRef("https://example.com/foo.git", "deadbeef")),
        ("https://example.com/foo.git#release/1.2", GitRef("https://example.com/foo.git", "release/1.2")),
        ("https://example.com/foo.git/", None),
        ("https://example.com/foo.git.bar", None),
        ("https://me:pw@example.com/foo.git#:sub/../dir/", GitRef("https://me:pw@example.com/foo.git", "", "dir")),
        ("http://example.com:8080/foo.git#v1:a/b", GitRef("http://example.com:8080/foo.git", "v1", "a/b")),
        ("git://example.com/foo", GitRef("git://example.com/foo")),
        ("ssh://git@example.com:2222/foo", GitRef("ssh://git@example.com:2222/foo")),
        ("github.com/moby/buildkit", GitRef("https://github.com/moby/buildkit", local_looking=True)),
        ("github.com/moby/buildkit.git#main", GitRef("https://github.com/moby/buildkit.git", "main", local_looking=True)),
        ("git@github.com:moby/buildkit.git", GitRef("git@github.com:moby/buildkit.git")),
        ("git@github.com:moby/buildkit.git#v1:docs", GitRef("git@github.com:moby/buildkit.git", "v1", "docs")),
        ("git@github.com:moby/buildkit.git?branch=b", GitRef("git@github.com:moby/buildkit.git", "refs/heads/b")),
        ("https://h/x.git?ref=v1&subdir=/d/", GitRef("https://h/x.git", "v1", "d")),
        ("https://h/x.git?tag=v1", GitRef("https://h/x.git", "refs/tags/v1")),
        ("https://h/x.git?tag=refs/tags/v1#refs/tags/v1", GitRef("https://h/x.git", "refs/tags/v1")),
        ("https://h/x.git?checksum=abc", GitRef("https://h/x.git", checksum="abc")),
        ("https://h/x.git?commit=abc", GitRef("https://h/x.git", checksum="abc")),
        ("https://h/x.git?keep-git-dir", GitRef("https://h/x.git", keep_git_dir=True)),
        ("https://h/x.git?keep-git-dir=0&submodules=f", GitRef("https://h/x.git", keep_git_dir=False, submodules=False)),
        ("https://h/x.git?mtime=commit&fetch-by-commit=1", GitRef("https://h/x.git", commit_time=True, fetch_by_commit=True)),
        ("./foo.git", None),
        ("../foo.git", None),
        ("foo.git", None),
        ("file:///foo.git", None),
        ("C:/foo.git", None),
        ("a/b:c.git", None),
        ("git@github.com:moby/buildkit.git\n", None),
    ],
)  # fmt: skip
def test_names(text: str, expected: GitRef | None) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("ref=", 'query "ref" has no value'),
        ("ref=a&ref=b", 'query "ref" has multiple values'),
        ("ref=a#b", 'ref conflicts: "b" vs "a"'),
        ("ref=a&tag=b", 'ref conflicts: "a" vs "refs/tags/b"'),
        ("tag=a&branch=b", "branch conflicts with tag"),
        ("subdir=a#:b", 'subdir conflicts: "b" vs "a"'),
        ("keep-git-dir=maybe", 'invalid keep-git-dir value: "maybe"'),
        ("mtime=now", 'invalid mtime value: "now" (must be "checkout" or "commit")'),
        ("depth=1", 'unexpected query "depth"'),
    ],
)
def test_contradictions(query: str, words: str) -> None:
    with pytest.raises(BuildError) as caught:
        parse(f"https://h/x.git?{query}")
    assert str(caught.value) == words


def test_commits() -> None:
    assert is_commit("a" * 40)
    assert is_commit("0" * 64)
    assert not is_commit("a" * 39)
    assert not is_commit("A" * 40)
    assert not is_commit("g" * 40)
    assert not is_commit("a" * 40 + "\n")
