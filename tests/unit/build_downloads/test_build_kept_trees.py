"""Directories that are kept for their keys."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from coved.build.remote import kept_trees
from coved.build.remote.kept_trees import KeptTrees


async def fill(place: Path) -> None:
    (place / "file").write_text("content")


def hold(trees: KeptTrees, key: str) -> str:
    async def run() -> str:
        async with trees.held(key, fill) as path:
            return (path / "file").read_text()

    return asyncio.run(run())


def test_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut could leave it with files that are empty."""
    written: list[list[str]] = []

    def sync(fd: int) -> None:
        made = Path(f"/proc/self/fd/{fd}").readlink()
        assert made.parent == tmp_path
        assert (made / "file").read_text() == "content"
        written.append([path.name for path in tmp_path.iterdir() if path.name[0] != "."])

    monkeypatch.setattr(kept_trees, "sync_file_system", sync)
    trees = KeptTrees(tmp_path, 10)
    assert [hold(trees, key) for key in ("a", "b", "a")] == ["content"] * 3
    assert written == [[], ["a"]]


def test_what_cannot_be_written_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(kept_trees, "sync_file_system", fail)
    with pytest.raises(OSError, match="Input/output error"):
        hold(KeptTrees(tmp_path, 10), "a")
    assert [*tmp_path.iterdir()] == []


def test_what_is_kept(tmp_path: Path) -> None:
    """Also by another object, which a later engine has."""

    async def run() -> None:
        trees = KeptTrees(tmp_path, 10)
        before = time.time_ns()
        async with trees.held("a", fill, "of a"):
            assert [one.in_use for one in await trees.entries()] == [True]
        async with trees.held("a", fill, "of another"):
            pass
        trees = KeptTrees(tmp_path, 10)
        (one,) = await trees.entries()
        assert (one.id, one.description, one.size, one.uses, one.in_use) == ("a", "of a", len("content"), 2, False)
        assert before - 10**8 < one.created_ns <= one.used_ns + 10**8 < time.time_ns() + 2 * 10**8

    asyncio.run(run())


def test_removed_unless_in_use(tmp_path: Path) -> None:
    """With what kills have left, but not what is being made."""

    async def run() -> None:
        trees = KeptTrees(tmp_path, 10)
        for key in "abc":
            async with trees.held(key, fill):
                pass
        (tmp_path / ".left").mkdir()
        (tmp_path / "half").mkdir()
        (tmp_path / "damaged").mkdir()
        (tmp_path / "damaged/note").write_text("{")

        async def make(place: Path) -> None:
            await trees.remove(["a", "b", "d", "none", "../x"])
            await fill(place)

        async with trees.held("a", fill), trees.held("d", make) as path:
            assert (path / "file").read_text() == "content"
        assert sorted(one.id for one in await trees.entries()) == ["a", "c", "d"]

    asyncio.run(run())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c", "d"]


def test_of_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        trees = KeptTrees(tmp_path / "none", 10)
        await trees.remove(["a"])
        assert await trees.entries() == []

    asyncio.run(run())
