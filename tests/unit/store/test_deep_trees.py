"""Containers nest directories as deep as they like; neither the interpreter's stack nor descriptors may run out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from coved.store.trees import remove_tree, tree_size

DEPTH = 2000


def nested(top: Path) -> None:
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)


def test_a_deep_tree_is_measured_and_removed(tmp_path: Path) -> None:
    nested(tmp_path / "top")
    (tmp_path / "top/beside").write_text("x" * 10_000)
    (tmp_path / "top/d/beside").write_text("x" * 10_000)
    (tmp_path / "other").mkdir()
    assert tree_size(tmp_path / "top") == 20_000
    remove_tree(tmp_path / "top")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_size_is_that_of_files_and_of_links_texts(tmp_path: Path) -> None:
    (tmp_path / "directories/are/free").mkdir(parents=True)
    (tmp_path / "file").write_text("x" * 10)
    os.link(tmp_path / "file", tmp_path / "directories/same")
    (tmp_path / "link").symlink_to("five!")
    (tmp_path / "holes").touch()
    os.truncate(tmp_path / "holes", 1000)
    assert tree_size(tmp_path) == 1015


@pytest.mark.root
@pytest.mark.parametrize("where", ["top", "top/file"])
def test_what_is_immutable_is_said_to_be(tmp_path: Path, where: str) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top/file").write_text("x")
    subprocess.run(["chattr", "+i", tmp_path / where], check=True)
    try:
        with pytest.raises(OSError, match=rf"^\[Errno 1\] Operation not permitted: '{Path(where).name}'$"):
            remove_tree(tmp_path / "top")
    finally:
        subprocess.run(["chattr", "-i", tmp_path / where], check=True)
    remove_tree(tmp_path / "top")
    assert not (tmp_path / "top").exists()
