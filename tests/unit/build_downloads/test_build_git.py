"""Trees of git repositories, from git's own servers."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from build_git_servers import commit, daemon, git, http_server
from build_web import registries, serving
from coved.build.errors import BuildError
from coved.build.remote import git as build_git
from coved.build.remote import git_budget
from coved.build.remote.git import Repositories
from coved.build.remote.git_url import parse


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repositories")
    work = root / "x.git"
    work.mkdir()
    git(work, "init", "-q")
    (work / "a").write_text("first")
    (work / "big").write_bytes(os.urandom(300_000))
    commit(work, "first")
    git(work, "tag", "light")
    git(work, "tag", "-a", "-m", "of the first", "annotated")
    (work / "a").write_text("second")
    (work / "run").write_text("#!/bin/sh\n")
    (work / "run").chmod(0o755)
    (work / "link").symlink_to("a")
    (work / "d/e").mkdir(parents=True)
    (work / "d/e/f").write_text("deep")
    # Many that are much the same, which become differences.
    for number in range(30):
        (work / f"d/{number}").write_text("line\n" * 500 + str(number))
    commit(work, "second")
    git(work, "checkout", "-q", "-b", "other/branch")
    (work / "a").write_text("on the branch")
    commit(work)
    git(work, "checkout", "-q", "main")
    git(work, "gc", "-q")
    return root


@pytest.fixture(scope="module")
def server(repositories: Path) -> Iterator[tuple[str, list[str]]]:
    with http_server(repositories) as made:
        yield made


def listing(root: Path) -> dict[str, str]:
    result = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else "" if path.is_dir() else path.read_text("latin-1")
        name = str(path.relative_to(root))
        if not name.startswith(".git/") and name != ".git":
            result[name] = f"{stat.filemode(status.st_mode)} {content}"
    return result


def fetch(place: Path, url: str, target: Path | None = None, **options: Any) -> tuple[dict[str, str], str]:
    """The files, which are copied to ``target`` as well, and the commit."""

    async def run() -> tuple[dict[str, str], str]:
        ref = parse(url)
        assert ref is not None
        async with Repositories(registries(), place).tree(ref, **options) as tree:
            if target is not None:
                shutil.copytree(tree.path, target, symlinks=True)
            return listing(tree.path), tree.commit

    return asyncio.run(run())


def expected(repositories: Path, ref: str, place: Path) -> dict[str, str]:
    """What git itself checks out."""
    place.mkdir()
    git(repositories / "x.git", "--work-tree", str(place), "checkout", "-q", ref, "--", ".")
    git(repositories / "x.git", "reset", "-q", "--hard")
    return listing(place)


@pytest.mark.parametrize(
    ("fragment", "ref"),
    [
        ("", "main"),
        ("#main", "main"),
        ("#light", "light"),
        ("#annotated", "annotated"),
        ("#refs/tags/annotated", "annotated"),
        ("#other/branch", "other/branch"),
        ("?branch=other/branch", "other/branch"),
        ("?tag=light", "light"),
        ("#refs/heads/main", "main"),
        ("#heads/main", "main"),
    ],
)
def test_what_a_ref_names(
    fragment: str, ref: str, server: tuple[str, list[str]], repositories: Path, tmp_path: Path
) -> None:
    files, commit = fetch(tmp_path / "cache", f"{server[0]}/x.git{fragment}")
    assert files == expected(repositories, ref, tmp_path / "expected")
    assert commit == git(repositories / "x.git", "rev-parse", f"{ref}^{{commit}}")


def test_a_daemon(repositories: Path, tmp_path: Path) -> None:
    with daemon(repositories) as url:
        files, _ = fetch(tmp_path / "cache", f"{url}/x.git#light")
        assert files == expected(repositories, "light", tmp_path / "expected")
        with pytest.raises(BuildError, match=r"failed to fetch remote git://.*remote error: "):
            fetch(tmp_path / "cache", f"{url}/none.git")


def test_a_commit_that_has_a_name(server: tuple[str, list[str]], repositories: Path, tmp_path: Path) -> None:
    wanted = git(repositories / "x.git", "rev-parse", "light")
    files, commit = fetch(tmp_path / "cache", f"{server[0]}/x.git#{wanted}")
    assert commit == wanted
    assert files == expected(repositories, "light", tmp_path / "expected")


@pytest.mark.parametrize("allowed", [False, True])
def test_a_commit_without_a_name(allowed: bool, tmp_path: Path) -> None:
    """A server may give it by itself; of another all is fetched, in which it is."""
    work = tmp_path / "r/y.git"
    work.mkdir(parents=True)
    git(work, "init", "-q")
    wanted = ""
    for number in range(3):
        (work / "a").write_text(str(number))
        made = commit(work)
        wanted = made if number == 1 else wanted
    git(work, "config", "uploadpack.allowReachableSHA1InWant", str(allowed).lower())
    with http_server(tmp_path / "r") as (url, _):
        assert fetch(tmp_path / "cache", f"{url}/y.git#{wanted}") == ({"a": "-rw-r--r-- 1"}, wanted)
        with pytest.raises(BuildError):
            fetch(tmp_path / "cache", f"{url}/y.git#{'1' * 40}")
    assert [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")] == []


def test_a_folder_of_it(server: tuple[str, list[str]], tmp_path: Path) -> None:
    assert fetch(tmp_path, f"{server[0]}/x.git#:d/e")[0] == {"f": "-rw-r--r-- deep"}
    assert fetch(tmp_path, f"{server[0]}/x.git#main:/d/../d/e/")[0] == {"f": "-rw-r--r-- deep"}
    for folder, words in {
        "none": "no such file or directory",
        "a": "not a directory",
        "link": "not a directory",
    }.items():
        with pytest.raises(BuildError, match=words):
            fetch(tmp_path, f"{server[0]}/x.git#:{folder}")


def test_a_commit_is_fetched_once(server: tuple[str, list[str]], repositories: Path, tmp_path: Path) -> None:
    url, asked = server
    wanted = git(repositories / "x.git", "rev-parse", "light")
    asked.clear()
    for _ in range(3):
        fetch(tmp_path, f"{url}/x.git#light")
    assert [one for one in asked if one.startswith("POST")] == ["POST /x.git/git-upload-pack"]
    asked.clear()
    fetch(tmp_path, f"{url}/x.git#{wanted}")
    assert asked == []


def test_a_checksum(server: tuple[str, list[str]], repositories: Path, tmp_path: Path) -> None:
    wanted = git(repositories / "x.git", "rev-parse", "annotated^{commit}")
    tag = git(repositories / "x.git", "rev-parse", "annotated")
    assert fetch(tmp_path, f"{server[0]}/x.git#annotated", checksum=wanted)[1] == wanted
    assert fetch(tmp_path, f"{server[0]}/x.git#annotated", checksum=tag[:10])[1] == wanted
    assert fetch(tmp_path, f"{server[0]}/x.git?tag=annotated&checksum={wanted[:12]}")[1] == wanted
    with pytest.raises(BuildError, match=f"expected checksum to match 1234, got {tag} or {wanted}"):
        fetch(tmp_path, f"{server[0]}/x.git#annotated", checksum="1234")
    with pytest.raises(BuildError, match="invalid checksum xyz for Git URL, expected hex commit hash"):
        fetch(tmp_path, f"{server[0]}/x.git", checksum="xyz")
    with pytest.raises(BuildError, match="invalid checksum 1234\n for Git URL"):
        fetch(tmp_path, f"{server[0]}/x.git", checksum="1234\n")


def test_by_commit(server: tuple[str, list[str]], repositories: Path, tmp_path: Path) -> None:
    """What the ref is by now is not asked."""
    wanted = git(repositories / "x.git", "rev-parse", "main")
    url = f"{server[0]}/x.git?fetch-by-commit=1"
    _, commit = fetch(tmp_path / "c", f"{url}&ref=v1&checksum={wanted}", tmp_path / "t", keep_git_dir=True)
    assert commit == wanted == git(tmp_path / "t", "rev-parse", "v1")
    with pytest.raises(BuildError, match="fetch-by-commit requires a checksum or a commit SHA ref"):
        fetch(tmp_path / "c", url)
    with pytest.raises(BuildError, match='fetch-by-commit requires a full commit SHA checksum, got "12ab"'):
        fetch(tmp_path / "c", f"{url}&checksum=12ab")


@pytest.mark.parametrize("ref", ["main", "annotated", "commit"])
def test_git_itself_finds_its_folder_in_order(
    ref: str, server: tuple[str, list[str]], repositories: Path, tmp_path: Path
) -> None:
    name = git(repositories / "x.git", "rev-parse", "other/branch") if ref == "commit" else ref
    target = tmp_path / "target"
    _, commit = fetch(tmp_path / "cache", f"{server[0]}/x.git#{name}", target, keep_git_dir=True)
    assert git(target, "rev-parse", "HEAD") == commit
    assert git(target, "status", "--porcelain") == ""
    assert git(target, "log", "--format=%H") == commit  # it is shallow
    git(target, "fsck", "--strict")
    assert git(target, "remote", "get-url", "origin") == f"{server[0]}/x.git"
    (target / "a").write_text("changed")
    assert git(target, "status", "--porcelain") == "M a"
    if ref != "commit":
        assert git(target, "rev-parse", f"{ref}^{{commit}}") == commit
    if ref == "annotated":
        assert git(target, "describe") == "annotated"


def test_without_a_git_folder_unless_asked(server: tuple[str, list[str]], tmp_path: Path) -> None:
    for number, (query, keep, there) in enumerate([
        ("", False, False), ("", True, True), ("?keep-git-dir=1", False, True), ("?keep-git-dir=false", True, False)
    ]):  # fmt: skip
        target = tmp_path / str(number)
        fetch(tmp_path / "cache", f"{server[0]}/x.git{query}", target, keep_git_dir=keep)
        assert (target / ".git").is_dir() == there


def test_times(server: tuple[str, list[str]], tmp_path: Path) -> None:
    fetch(tmp_path / "cache", f"{server[0]}/x.git?mtime=commit", tmp_path / "old")
    assert {int(path.lstat().st_mtime) for path in (tmp_path / "old").rglob("*")} == {1_600_000_000}
    fetch(tmp_path / "cache", f"{server[0]}/x.git", tmp_path / "new")
    assert abs((tmp_path / "new/a").stat().st_mtime - time.time()) < 3600


def test_who_asks(repositories: Path, tmp_path: Path) -> None:
    with http_server(repositories, "x-access-token:t0k") as (url, _):
        host = url.removeprefix("http://")
        with pytest.raises(BuildError, match=f"failed to fetch remote {url}/x.git: Authentication failed for"):
            fetch(tmp_path, f"{url}/x.git")

        for name in (f"GIT_AUTH_TOKEN.{host}", "GIT_AUTH_TOKEN"):

            async def secret(asked: str, name: str = name) -> bytes | None:
                return {name: b"t0k\n"}.get(asked)

            assert "a" in fetch(tmp_path / name, f"{url}/x.git", secret=secret)[0]
        files, _ = fetch(tmp_path / "url", f"http://x-access-token:t0k@{host}/x.git", tmp_path / "t", keep_git_dir=True)
        assert "a" in files
        assert "t0k" not in (tmp_path / "t/.git/config").read_text()
        with pytest.raises(BuildError) as caught:
            fetch(tmp_path / "wrong", f"http://me:wrong@{host}/x.git")
        assert "wrong" not in str(caught.value)


def test_submodules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "r"
    for name in ("inner.git", "middle.git", "outer.git"):
        (root / name).mkdir(parents=True)
        git(root / name, "init", "-q")
        (root / name / name).write_text(name)
        commit(root / name)
    git(root / "middle.git", "submodule", "add", "-q", str(root / "inner.git"), "deep/inner")
    git(root / "middle.git", "config", "-f", ".gitmodules", "submodule.deep/inner.url", "../inner.git")
    commit(root / "middle.git")
    git(root / "outer.git", "submodule", "add", "-q", str(root / "middle.git"), "sub")
    git(root / "outer.git", "config", "-f", ".gitmodules", "submodule.sub.url", "./../middle.git")
    commit(root / "outer.git")
    with http_server(root) as (url, _):
        files, _ = fetch(tmp_path / "cache", f"{url}/outer.git")
        assert {name for name, what in files.items() if not what.startswith("d")} == {
            ".gitmodules", "outer.git", "sub/.gitmodules", "sub/middle.git", "sub/deep/inner/inner.git"
        }  # fmt: skip
        files, _ = fetch(tmp_path / "cache", f"{url}/outer.git?submodules=false")
        assert sorted(files) == [".gitmodules", "outer.git", "sub"]
        monkeypatch.setattr(git_budget, "REPOSITORIES_MAX", 1)
        with pytest.raises(BuildError, match="the repository has more than 1 submodules"):
            fetch(tmp_path / "other", f"{url}/outer.git")
        git(root / "outer.git", "config", "-f", ".gitmodules", "submodule.sub.url", "file:///etc")
        commit(root / "outer.git")
        with pytest.raises(BuildError, match=r'failed to update submodules for .*unsupported protocol scheme "file"'):
            fetch(tmp_path / "cache", f"{url}/outer.git")
    assert [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")] == []


def test_submodules_elsewhere_learn_nothing_of_who_asks(tmp_path: Path) -> None:
    """A .gitmodules can name any host; what is meant for a host by its name still goes there, but only encrypted."""
    root = tmp_path / "r"
    for name in ("inner.git", "beside.git", "outer.git"):
        (root / name).mkdir(parents=True)
        git(root / name, "init", "-q")
        commit(root / name)
    for name in ("beside.git", "inner.git"):
        git(root / "outer.git", "submodule", "add", "-q", str(root / name), name)
    asked: list[str] = []

    async def secret(name: str) -> bytes | None:
        asked.append(name)
        return {"GIT_AUTH_TOKEN": b"t0k"}.get(name)

    with serving() as other, http_server(root, "x-access-token:t0k") as (url, _):
        for name, where in {"inner.git": f"{other.url}/inner.git", "beside.git": "../beside.git"}.items():
            git(root / "outer.git", "config", "-f", ".gitmodules", f"submodule.{name}.url", where)
        commit(root / "outer.git")
        with pytest.raises(BuildError, match="not found: the server says 404"):
            fetch(tmp_path / "cache", f"{url}/outer.git", secret=secret)
        assert [headers.get("authorization") for _, headers in other.asked] == [None]
        host = url.removeprefix("http://")
        assert asked[-4:] == [
            f"GIT_AUTH_HEADER.{host}", "GIT_AUTH_HEADER", f"GIT_AUTH_TOKEN.{host}", "GIT_AUTH_TOKEN"
        ]  # fmt: skip
        assert len(asked) == 8  # of the repository and the submodule that is beside it
        asked.clear()
        git(root / "outer.git", "config", "-f", ".gitmodules", "submodule.inner.git.url", "https://127.0.0.1:1/x.git")
        commit(root / "outer.git")
        with pytest.raises(BuildError, match="connection refused"):
            fetch(tmp_path / "cache", f"{url}/outer.git", secret=secret)
        assert asked[-2:] == ["GIT_AUTH_HEADER.127.0.0.1:1", "GIT_AUTH_TOKEN.127.0.0.1:1"]


def test_what_is_not_there(server: tuple[str, list[str]], tmp_path: Path) -> None:
    for url, words in {
        f"{server[0]}/x.git#nothing": "repository does not contain ref nothing",
        f"{server[0]}/none.git": "not found: the server says 404",
        "http://127.0.0.1:1/x.git": "connect: connection refused",
        "git://127.0.0.1:1/x.git": "unable to connect to 127.0.0.1:1: Connection refused",
        "git@github.com:a/b.git": 'no SSH key "default" forwarded from the client',
    }.items():
        with pytest.raises(BuildError, match=f"failed to load cache key: .*{words}"):
            fetch(tmp_path, url)


def test_there_are_bounds(
    server: tuple[str, list[str]], repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_git, "TREES_MAX", 2)
    for ref in ("main", "light", "other/branch", "main:d"):
        fetch(tmp_path, f"{server[0]}/x.git#{ref}")
    assert len([*tmp_path.iterdir()]) == 2
