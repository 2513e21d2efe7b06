"""The source of changes on Windows, with a real Python for Windows. Wine 8 tells of a folder itself, and nothing of those below it."""

from __future__ import annotations

import queue
import stat
import struct
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "win32":
    pytest.skip("of Windows", allow_module_level=True)

import _winapi

from cove.share.watching import below, notifications
from cove.share.watching.notifications import Directories, Notifications, parsed
from cove.share.watching.source import Seen


def test_each_kind_is_told_by_its_name(tmp_path: Path) -> None:
    told: queue.Queue[Seen] = queue.Queue()

    def tell(folder: Path, seen: Sequence[Seen], lost: bool) -> None:
        assert (folder, lost) == (tmp_path, False)
        for one in seen:
            told.put(one)

    def until(last: Seen) -> list[Seen]:
        found: list[Seen] = []
        while last not in found:
            found.append(told.get(timeout=30))
        return list(dict.fromkeys(found))

    (tmp_path / "gone").mkdir()
    source = Notifications(tell)
    try:
        source.watch(tmp_path, tmp_path)
        (tmp_path / "a").write_text("one")
        assert until(Seen("modify", "a")) == [Seen("create", "a"), Seen("modify", "a")]
        (tmp_path / "a").rename(tmp_path / "b")
        until(Seen("move", "a", False, "b"))
        (tmp_path / "b").unlink()
        until(Seen("delete", "b"))
        (tmp_path / "gone").rmdir()
        until(Seen("delete", "gone", True))
        (tmp_path / "made").mkdir()
        until(Seen("create", "made", True))
        source.unwatch(tmp_path)
        source.unwatch(tmp_path)
    finally:
        source.close()


def test_what_the_system_could_not_keep_is_told_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: queue.Queue[tuple[list[Seen], bool]] = queue.Queue()
    real = notifications._Watch._next
    monkeypatch.setattr(notifications._Watch, "_next", lambda self, buffer, pending: real(self, buffer, pending) * 0)
    source = Notifications(lambda folder, seen, lost: told.put(([*seen], lost)))
    try:
        source.watch(tmp_path, tmp_path)
        (tmp_path / "a").write_text("one")
        assert told.get(timeout=30) == ([], True)
    finally:
        source.close()


def test_what_cannot_be_watched_is_an_error(tmp_path: Path) -> None:
    source = Notifications(lambda folder, seen, lost: None)
    with pytest.raises(OSError):
        source.watch(tmp_path, tmp_path / "nowhere")
    source.close()


def test_what_a_link_on_the_way_leads_out_of_is_not_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wine 8 has no junctions: what is opened by one's name is another place."""
    for name in ("share/sub", "other/sub"):
        (tmp_path / name).mkdir(parents=True)
    create = _winapi.CreateFile
    through = str(tmp_path / "share" / "sub")
    monkeypatch.setattr(
        _winapi, "CreateFile", lambda name, *how: create(str(tmp_path / "other/sub") if name == through else name, *how)
    )
    source = Notifications(lambda folder, seen, lost: None)
    try:
        with pytest.raises(NotADirectoryError):
            source.watch(tmp_path / "share", tmp_path / "share" / "sub")
        source.watch(tmp_path / "other", tmp_path / "other" / "SUB")
    finally:
        source.close()


def test_a_handle_is_not_used_once_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: queue.Queue[bool] = queue.Queue()
    real, begun = notifications._Watch._next, threading.Event()

    def once(self: notifications._Watch, buffer: Any, pending: Any) -> int:
        if begun.is_set():
            raise OSError("unplugged")
        begun.set()
        return real(self, buffer, pending)

    monkeypatch.setattr(notifications._Watch, "_next", once)
    watch = notifications._Watch(lambda folder, seen, all: lost.put(all), tmp_path, tmp_path, deep=True)
    (tmp_path / "a").write_text("one")
    while not lost.get(timeout=30):
        pass
    watch._thread.join(30)
    assert not watch._thread.is_alive()

    class Kernel:
        def CancelIoEx(self, handle: object, pending: object) -> None:
            pytest.fail("it may be another file's")

    watch._kernel = Kernel()
    watch.close()


def test_links_are_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d" / "link" / "beyond").mkdir(parents=True)
    link = (tmp_path / "d" / "link").lstat().st_ino
    monkeypatch.setattr(
        notifications, "kind", lambda found: stat.S_IFLNK if found.st_ino == link else below.kind(found)
    )
    known = Directories()
    known.find(tmp_path)
    assert not known.remove("d/link/beyond") and not known.remove("d/link") and known.remove("d")


def test_directories_are_known_when_they_are_gone(tmp_path: Path) -> None:
    (tmp_path / "A" / "b").mkdir(parents=True)
    known = Directories()
    known.find(tmp_path)
    assert known.remove("a/B")
    assert not known.remove("a/b")
    known.add(tmp_path, "A")
    assert known.remove("A") and not known.remove("A/b")


def test_records_are_read_one_after_the_other() -> None:
    def record(action: int, name: str, *, last: bool = False) -> bytes:
        raw = name.encode("utf-16-le")
        size = (12 + len(raw) + 3) // 4 * 4
        return (struct.pack("<III", 0 if last else size, action, len(raw)) + raw).ljust(size, b"\0")

    data = record(4, "old") + record(5, "d\\new", last=True)
    assert [*parsed(data)] == [(4, "old"), (5, "d/new")]
    assert [*parsed(b"")] == []
