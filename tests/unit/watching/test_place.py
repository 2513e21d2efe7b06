"""Containers own what is in a folder, so no name in it may lead the engine elsewhere."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from coved.link.protocol import Change, Changes
from coved.watching.emitter import emit
from coved.watching.nearest import Nearest
from coved.watching.pins import Pins
from coved.watching.place import Place


def test_no_symlink_is_followed_wherever_it_stands(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "file").write_text("x")
    (outside / "file").chmod(0o604)
    (inside / "dir").symlink_to(outside)
    (inside / "file").symlink_to(outside / "file")
    before = (outside / "file").stat()
    with contextlib.closing(Place(str(inside))) as place:
        near = Nearest(place, "")
        for change in (
            Change("modify", "dir/file"), Change("attrib", "dir/file"), Change("modify", "file"),
        ):  # fmt: skip
            with pytest.raises(OSError):
                near.do(change)
        near.do(Change("attrib", "file"))  # the link itself, which has no mode
        near.do(Change("delete", "dir/x"))
        with pytest.raises(OSError), place.parent("../out/file"):
            pass
    after = (outside / "file").stat()
    assert (after.st_ctime_ns, after.st_atime_ns) == (before.st_ctime_ns, before.st_atime_ns)


def test_the_nearest_changes_neither_contents_nor_times(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    file = tmp_path / "d" / "a"
    file.write_text("text")
    os.utime(file, ns=(1, 2))
    with contextlib.closing(Place(str(tmp_path))) as place:
        near = Nearest(place, "d")
        near.do(Change("modify", "a", size=4))
        near.do(Change("move", "gone", to="a"))
        near.do(Change("delete", "gone"))
    assert (file.read_text(), file.stat().st_mtime_ns) == ("text", 2)


def test_what_is_told_of_a_path_of_the_vm_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    emit(Changes(1, str(tmp_path), "t", (Change("delete", "a"), Change("modify", "a", size=0)), lost=True), Pins())
    assert (tmp_path / "a").read_text() == "mine"


def held() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_directories_are_held_and_let_go_of(tmp_path: Path) -> None:
    for name in ("a/b", "c"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("/etc")
    before = held()
    pins = Pins()
    pins.hold(str(tmp_path))
    assert held() == before + 4
    pins.hold(str(tmp_path / "a"))
    assert held() == before + 4
    pins.let_go(str(tmp_path / "a"))
    assert held() == before + 2
    pins.let_go(str(tmp_path))
    assert held() == before
