"""A tree is copied to where a container is at work: what it swaps must never lead the copy out of there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from coved.store import trees


def copy(source: Path, target: Path) -> None:
    fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    try:
        trees.copy_tree(fd, target)
    finally:
        os.close(fd)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Source, target, and a folder that is neither's."""
    made = (tmp_path / "source", tmp_path / "target", tmp_path / "outside")
    for path in made:
        path.mkdir()
    return made


def test_a_link_that_takes_the_place_of_a_fifo(places: tuple[Path, Path, Path], monkeypatch: Any) -> None:
    source, target, outside = places
    os.mkfifo(source / "fifo", 0o666)
    secret = outside / "secret"
    secret.write_text("")
    secret.chmod(0o600)
    make = os.mknod

    def make_and_swap(name: str, *rest: Any, dir_fd: int) -> None:
        make(name, *rest, dir_fd=dir_fd)
        os.unlink(name, dir_fd=dir_fd)
        os.symlink(secret, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mknod", make_and_swap)
    with pytest.raises(OSError, match="replaced"):
        copy(source, target)
    assert secret.stat().st_mode & 0o7777 == 0o600


def test_a_link_that_takes_the_place_of_a_folder(places: tuple[Path, Path, Path], monkeypatch: Any) -> None:
    source, target, outside = places
    for name in ("a", "b"):
        (source / name).mkdir()
    (source / "a/file").write_text("the image's")
    os.link(source / "a/file", source / "b/file")
    secret = outside / "file"
    secret.write_text("not the container's")
    link = os.link

    def swap_and_link(*names: Any, **options: Any) -> None:
        # Which of the two is copied first is the file system's to say.
        first = target / ("a" if (target / "a/file").exists() else "b")
        first.rename(target / "moved")
        first.symlink_to(outside)
        link(*names, **options)

    monkeypatch.setattr(os, "link", swap_and_link)
    with contextlib.suppress(OSError):
        copy(source, target)
    assert secret.stat().st_nlink == 1
