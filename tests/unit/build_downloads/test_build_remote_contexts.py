"""RemoteContexts that lie elsewhere."""

from __future__ import annotations

import asyncio
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from build_git_servers import commit, git, http_server
from build_web import Web, page, registries, serving
from coved.build.errors import BuildError
from coved.build.remote.contexts import RemoteContexts
from coved.build.remote.downloads import Downloads
from coved.build.remote.git import Repositories
from coved.build.remote.git_url import is_elsewhere
from coved.build.remote.kept_trees import KeptTrees


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as made:
        yield made


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid = len(text), os.getuid(), os.getgid()
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def look(place: Path, url: str, **options: Any) -> tuple[dict[str, str], str, str]:
    """Files, the Dockerfile's name, and the key."""

    async def run() -> tuple[dict[str, str], str, str]:
        files, trees = Downloads(registries(), place / "d"), Repositories(registries(), place / "g")
        async with RemoteContexts(files, trees, place / "c").tree(url, **options) as found:
            inside = {str(path.relative_to(found.path)): path.read_text() for path in found.path.rglob("*")}
            result = inside, found.dockerfile, found.key
        await files.close()
        return result

    return asyncio.run(run())


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
def test_an_archive(compress: Callable[[bytes], bytes], web: Web, tmp_path: Path) -> None:
    web.pages["/c.tar"] = page(compress(archive(Dockerfile="FROM x", a="b")), ETag='"1"')
    for _ in range(2):
        files, dockerfile, _ = look(tmp_path, f"{web.url}/c.tar")
        assert (files, dockerfile) == ({"Dockerfile": "FROM x", "a": "b"}, "")


def test_a_dockerfile(web: Web, tmp_path: Path) -> None:
    web.pages["/Dockerfile"] = page(b"FROM x")
    assert look(tmp_path, f"{web.url}/Dockerfile")[:2] == ({"context": "FROM x"}, "context")


def test_a_named_context_is_a_file(web: Web, tmp_path: Path) -> None:
    web.pages["/c.tar"] = page(archive(a="b"))
    assert look(tmp_path, f"{web.url}/c.tar")[0] == {"a": "b"}
    web.pages["/d.tar"] = web.pages["/c.tar"]
    for name in ("c.tar", "d.tar"):
        assert [*look(tmp_path, f"{web.url}/{name}", named=True)[0]] == [name]


def test_the_key_is_of_the_content(web: Web, tmp_path: Path) -> None:
    web.pages["/a"] = web.pages["/b"] = page(archive(a="b"))
    web.pages["/c"] = page(archive(a="c"))
    keys = [look(tmp_path, f"{web.url}/{name}")[2] for name in "abc"]
    assert keys[0] == keys[1] != keys[2]


def test_an_archive_that_means_harm(web: Web, tmp_path: Path) -> None:
    web.pages["/c"] = page(archive(**{"../../../out": "x"}))
    with pytest.raises(BuildError, match="is outside of"):
        look(tmp_path, f"{web.url}/c")
    assert not list(tmp_path.rglob("out"))
    assert [*(tmp_path / "c").iterdir()] == []


def test_a_repository(tmp_path: Path) -> None:
    work = tmp_path / "r/x.git"
    (work / "d").mkdir(parents=True)
    git(work, "init", "-q")
    (work / "d/Dockerfile").write_text("FROM x")
    commit(work)
    with http_server(tmp_path / "r") as (url, _):
        assert look(tmp_path / "p", f"{url}/x.git#:d")[:2] == ({"Dockerfile": "FROM x"}, "")


def test_what_is_elsewhere() -> None:
    assert is_elsewhere("https://h/c.tar.gz")
    assert is_elsewhere("git@h:x.git")
    assert is_elsewhere("github.com/a/b")
    assert not is_elsewhere("/a/b")
    assert not is_elsewhere(".")
    assert not is_elsewhere("")
    with pytest.raises(BuildError):
        is_elsewhere("https://h/x.git?what=1")


def test_trees_that_are_kept(tmp_path: Path) -> None:
    """Each is made once whoever waits for it, what failed leaves nothing, and what is in use stays."""
    made: list[str] = []

    async def run() -> None:
        trees = KeptTrees(tmp_path / "k", 2)

        async def use(key: str, fail: bool = False) -> None:
            async def make(place: Path) -> None:
                made.append(key)
                await asyncio.sleep(0)
                if fail:
                    raise ValueError(key)
                (place / "f").write_text(key)

            async with trees.held(key, make) as path:
                assert (path / "f").read_text() == key

        await asyncio.gather(*(use("a") for _ in range(5)))
        assert made == ["a"]
        with pytest.raises(ValueError, match="b"):
            await use("b", fail=True)
        assert [path.name for path in (tmp_path / "k").iterdir()] == ["a"]

        async def never(place: Path) -> None:
            pytest.fail("it is there")

        async with trees.held("a", never) as path:
            for key in "cdef":
                await use(key)
            assert (path / "f").read_text() == "a"
        assert len([*(tmp_path / "k").iterdir()]) == 2

    asyncio.run(run())
