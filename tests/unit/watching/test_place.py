"""Containers own what is in a folder, so no name in it may lead the engine elsewhere."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from coved.link.protocol import Change, Changes
from coved.watching.emitter import emit
from coved.watching.place import Place


def test_nothing_above_a_folder_is_opened(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "dir").symlink_to(tmp_path / "out")
    with contextlib.closing(Place(str(tmp_path / "in"))) as place:
        for path in ("../out/file", "dir/file"):
            with pytest.raises(OSError), place.parent(path):
                pass


def test_what_is_told_of_a_path_of_the_vm_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    emit(Changes(1, str(tmp_path), "t", (Change("delete", "a"), Change("modify", "a")), lost=True))
    assert (tmp_path / "a").read_text() == "mine"
