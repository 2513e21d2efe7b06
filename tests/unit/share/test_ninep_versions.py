"""Which version a file has for the guest's kernel, and what is remembered of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cove.share.ninep import versions
from cove.share.ninep.looks import Look, look_at
from cove.share.ninep.versions import Versions


def look(file: Path) -> Look:
    return look_at(-100, str(file).encode())  # AT_FDCWD


def test_files_that_were_left_are_forgotten_in_the_end_and_open_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "MAX_KNOWN", 10)
    known = Versions()
    (tmp_path / "f").write_text("1")
    before = look(tmp_path / "f")
    (tmp_path / "f").write_text("12")
    after = look(tmp_path / "f")
    known.begin(0, before)
    for number in range(1, 30):
        known.begin(number, before)
        known.end(number, after, wrote=True)
    assert [known.of(number, after) == known.of(0, after) for number in range(1, 30)] == [False] * 19 + [True] * 10
    assert known.is_being_written(0) and not known.end(0, after, wrote=True)
    assert known.of(0, after) == known.of(0, before)


def test_what_was_only_held_open_has_the_version_of_what_it_is_now(tmp_path: Path) -> None:
    known = Versions()
    (tmp_path / "f").write_text("1")
    before = look(tmp_path / "f")
    known.begin(1, before)
    (tmp_path / "f").write_text("by another")
    after = look(tmp_path / "f")
    assert known.of(1, after) == known.of(2, before)
    known.end(1, after, wrote=False)
    assert known.of(1, after) != known.of(2, before)


def test_who_missed_something_is_told_at_the_end_of_the_last_writer(tmp_path: Path) -> None:
    known = Versions()
    (tmp_path / "f").write_text("1")
    before = look(tmp_path / "f")
    known.begin(1, before)
    known.begin(1, before)
    known.miss(1)
    assert [known.end(1, before, wrote=False) for _ in range(2)] == [False, True]
    known.miss(1)
    known.begin(1, before)
    assert not known.end(1, None, wrote=True)
