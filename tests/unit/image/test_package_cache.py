"""What stays of the packages that were downloaded."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from cove.image import inputs, package_cache
from cove.image.download import Downloader, Wanted, lock_of
from cove.image.package_cache import pinned, trim
from cove.image.recipe import load_lock, lock_path
from cove.machine.architecture import AMD64

HOUR, DAY = 3600, 24 * 3600


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Files of 100 bytes, by how long ago they were used."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for name, age in {"now": 0, "day": DAY, "week": 7 * DAY, "month": 31 * DAY, "half.part": 40 * DAY}.items():
        (folder / name).write_bytes(bytes(100))
        os.utime(folder / name, (time.time() - age,) * 2)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_not_used_for_a_month_goes(cache: Path) -> None:
    assert trim(cache) == 200
    assert names(cache) == {"now", "day", "week"}
    assert trim(cache) == 0


def test_what_the_image_is_made_of_stays(cache: Path) -> None:
    assert trim(cache, {"month"}, keep_bytes=100) == 300
    assert names(cache) == {"now", "month"}


def test_the_least_recently_used_go_first_when_there_is_too_much(cache: Path) -> None:
    assert trim(cache, keep_bytes=250) == 300
    assert names(cache) == {"now", "day"}


def test_what_another_process_is_about_stays(cache: Path) -> None:
    with lock_of(cache / "month") as lock:
        assert lock.try_acquire()
        assert trim(cache, keep_bytes=0) == 300
    assert names(cache) == {"now", "month"}
    os.utime(cache / "month")
    assert trim(cache, keep_bytes=0) == 0


def test_a_use_counts(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (folder / digest).touch()
    os.utime(folder / digest, (time.time() - 40 * DAY,) * 2)
    Downloader(folder).fetch(Wanted("nothing", "http://127.0.0.1:1/", digest, 0))
    assert trim(folder) == 0
    assert names(folder) == {digest}


def test_no_cache_is_no_error(tmp_path: Path) -> None:
    assert trim(tmp_path / "none") == 0


def test_the_present_image_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    locked = load_lock(lock_path(inputs.recipe_dir(), AMD64))
    assert pinned() == {package.sha256 for package in locked}
    monkeypatch.setattr(package_cache.inputs, "recipe_dir", lambda: tmp_path)
    assert pinned() == frozenset()
