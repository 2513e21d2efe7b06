"""The source for macOS, with what watchdog has for this system."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from pathlib import Path

import pytest
from cove.share.watching.observer import Observed
from cove.share.watching.source import Seen


def test_each_kind_is_told_by_its_path_in_the_folder(tmp_path: Path) -> None:
    told: queue.Queue[Seen] = queue.Queue()

    def tell(folder: Path, seen: Sequence[Seen], lost: bool) -> None:
        assert (folder, lost) == (tmp_path, False)
        for one in seen:
            told.put(one)

    def next_of(kind: str) -> Seen:
        while (one := told.get(timeout=10)).kind != kind:
            pass
        return one

    observed = Observed(tell)
    try:
        (tmp_path / "sub").mkdir()
        observed.watch(tmp_path, tmp_path)
        (tmp_path / "sub" / "a").write_text("one")
        assert next_of("create") == Seen("create", "sub/a")
        assert next_of("modify") == Seen("modify", "sub/a")
        (tmp_path / "sub" / "a").rename(tmp_path / "b")
        assert next_of("move") == Seen("move", "sub/a", False, "b")
        (tmp_path / "b").unlink()
        assert next_of("delete") == Seen("delete", "b")
        observed.unwatch(tmp_path)
        observed.unwatch(tmp_path)
    finally:
        observed.close()


def test_a_folder_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    observed = Observed(lambda folder, seen, lost: None)
    try:
        with pytest.raises(NotADirectoryError):
            observed.watch(tmp_path / "in", tmp_path / "in" / "link")
    finally:
        observed.close()
