"""Directories that are kept for their keys."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from coved.build import kept_trees
from coved.build.kept_trees import KeptTrees


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
