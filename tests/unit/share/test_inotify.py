"""What inotify's source tells of folders, on the real thing."""

from __future__ import annotations

import os
import queue
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cove.share.watching.inotify import Inotify
from cove.share.watching.source import Seen

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
WAIT_S = 10.0


class Told:
    """Collects what is told until a file that the test makes at the end is told of."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[Path, Sequence[Seen], bool]] = queue.Queue()
        self.lost = False

    def tell(self, folder: Path, seen: Sequence[Seen], lost: bool) -> None:
        self._queue.put((folder, seen, lost))

    def until(self, folder: Path, name: str = "end") -> list[tuple[str, ...]]:
        (folder / name).mkdir()
        found: list[tuple[str, ...]] = []
        while True:
            where, seen, lost = self._queue.get(timeout=WAIT_S)
            assert where == folder
            self.lost = self.lost or lost
            for one in seen:
                if one.path == name:
                    return found
                found.append((one.kind, one.path, one.to) if one.to else (one.kind, one.path))

    def until_lost(self) -> None:
        while not self._queue.get(timeout=WAIT_S)[2]:
            pass


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def source(told: Told) -> Iterator[Inotify]:
    made = Inotify(told.tell)
    yield made
    made.close()


def test_each_kind_is_told_in_its_order(source: Inotify, told: Told, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    source.watch(tmp_path, tmp_path)
    (tmp_path / "sub" / "a").write_text("one")
    (tmp_path / "sub" / "a").chmod(0o600)
    (tmp_path / "sub" / "a").rename(tmp_path / "b")
    (tmp_path / "b").unlink()
    assert told.until(tmp_path) == [
        ("create", "sub/a"),
        ("modify", "sub/a"),
        ("close", "sub/a"),
        ("attrib", "sub/a"),
        ("move", "sub/a", "b"),
        ("delete", "b"),
    ]


def test_new_directories_are_watched_with_what_was_put_into_them_at_once(
    source: Inotify, told: Told, tmp_path: Path
) -> None:
    source.watch(tmp_path, tmp_path)
    deep = tmp_path / "x" / "y" / "z"
    deep.mkdir(parents=True)
    (deep / "f").touch()
    first = told.until(tmp_path)
    assert [one for one in first if one[0] == "create"] == [
        ("create", "x"), ("create", "x/y"), ("create", "x/y/z"), ("create", "x/y/z/f"),
    ]  # fmt: skip
    (tmp_path / "end").rmdir()
    (deep / "g").touch()
    assert ("create", "x/y/z/g") in told.until(tmp_path, "end2")


def test_a_directory_that_moved_is_told_by_its_new_name(source: Inotify, told: Told, tmp_path: Path) -> None:
    (tmp_path / "old" / "deep").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    watched = tmp_path / "watched"
    watched.mkdir()
    (watched / "d").mkdir()
    source.watch(tmp_path, watched)
    (watched / "d").rename(watched / "e")
    (watched / "e" / "f").touch()
    (tmp_path / "old").rename(watched / "came")
    (watched / "came" / "deep" / "g").touch()
    (watched / "e").rename(tmp_path / "out" / "gone")
    (tmp_path / "out" / "gone" / "unseen").touch()
    seen = [one for one in told.until(watched) if one[0] not in ("close", "attrib")]
    assert seen[:2] == [("move", "d", "e"), ("create", "e/f")]
    assert sorted(seen[2:]) == [
        ("create", "came"), ("create", "came/deep"), ("create", "came/deep/g"), ("delete", "e"),
    ]  # fmt: skip


def test_a_symlink_is_not_followed_out_of_the_folder(source: Inotify, told: Told, tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    source.watch(inside, inside)
    (outside / "secret").touch()
    assert told.until(inside) == []
    with pytest.raises(OSError):
        source.watch(inside, inside / "link")


def test_what_is_beyond_the_limit_is_counted(told: Told, tmp_path: Path) -> None:
    for name in range(5):
        (tmp_path / str(name)).mkdir()
    source = Inotify(told.tell, limit=4)
    try:
        source.watch(tmp_path, tmp_path)
        assert source.unwatched() == 2
    finally:
        source.close()


def test_an_overflow_is_told_and_new_directories_are_found_all_the_same(
    source: Inotify, told: Told, tmp_path: Path
) -> None:
    source.watch(tmp_path, tmp_path)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with source._lock:  # the thread stands still, as on a busy computer
        (tmp_path / "new").mkdir()
        names = [os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b")]
        for name in names:
            Path(os.fsdecode(name)).touch()
        for _ in range(2 * limit):
            for name in names:
                os.utime(name)
    told.until_lost()
    shutil.rmtree(tmp_path / "end", ignore_errors=True)
    (tmp_path / "new" / "f").touch()
    assert ("create", "new/f") in told.until(tmp_path)
