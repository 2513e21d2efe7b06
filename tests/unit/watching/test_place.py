"""Containers own what is in a folder, so no name in it may lead the engine elsewhere."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from coved.link.protocol import Change, Changes
from coved.watching import mounted
from coved.watching.emitter import emit
from coved.watching.mounted import Mounted
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


@pytest.fixture
def qemus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mounted, "find", lambda path: Mounted(str(tmp_path), "qemu", 0))
    return tmp_path


def test_directories_are_held_while_they_are_wanted(qemus: Path) -> None:
    for name in ("a/b", "c"):
        (qemus / name).mkdir(parents=True)
    (qemus / "link").symlink_to("/etc")
    before = held()
    pins = Pins()
    pins.hold(str(qemus))
    assert held() == before, "nobody wants it"
    for wanted, count in (
        ([""], 4),
        (["", "a"], 4),
        (["a"], 2),
        ([], 0),
        (["a", "c"], 3),
        (["c"], 1),
        ([""], 4),
        ([], 0),
    ):
        pins.want(str(qemus / name).rstrip("/") for name in wanted)
        pins.settle(10)
        assert held() == before + count, wanted


def test_no_link_on_the_way_is_followed_when_a_directory_is_held(qemus: Path) -> None:
    (qemus / "out/deep").mkdir(parents=True)
    (qemus / "in").symlink_to("out")
    before = held()
    pins = Pins()
    pins.want([str(qemus / "in/deep"), str(qemus / "in")])
    pins.settle(10)
    assert held() == before
