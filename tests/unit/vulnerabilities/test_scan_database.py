"""The index of a database: made once of the files that osv.dev publishes, anew when they change, and never half."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cove.errors import CoveError
from cove.progress import Event, ignore
from cove.vulnerabilities import database, sources
from cove.vulnerabilities.database import Database
from cove.vulnerabilities.severity import Level
from osv_entries import CRITICAL, LOW, affected, archive, entry

ONE = entry("CVE-1", affected("npm", "one", "1.0.0"), severity=CRITICAL, summary="Bad")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def indexes(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "cache" / "osv").iterdir())


def ids(known: Database, ecosystem: str, name: str) -> list[str]:
    return [each.entry.identifier for each in known.affected(ecosystem, name)]


def test_an_archive(tmp_path: Path) -> None:
    entries = [ONE, entry("GHSA-2", affected("npm", "one"), affected("PyPI", "Foo.Bar"), aliases=["CVE-2"])]
    known = database.open_(archive(tmp_path / "all.zip", entries), ignore)
    assert ids(known, "npm", "one") == ["CVE-1", "GHSA-2"]
    assert ids(known, "PyPI", "foo-bar") == ["GHSA-2"]
    assert ids(known, "npm", "two") == []
    assert known.ecosystems == {"npm": 2, "PyPI": 1}
    assert (known.about.entries, known.about.newest) == (2, "2026-01-02T03:04:05Z")
    [first, _] = known.affected("npm", "one")
    assert (first.severity.level, first.entry.summary) == (Level.CRITICAL, "Bad")
    assert known.severity("CVE-1").level == Level.CRITICAL
    assert known.severity("CVE-9").level == Level.UNKNOWN


def test_a_folder_of_archives_and_of_entries(tmp_path: Path) -> None:
    folder = tmp_path / "osv"
    (folder / "npm").mkdir(parents=True)
    (folder / "PyPI").mkdir()
    archive(folder / "npm" / "all.zip", [ONE])
    (folder / "PyPI" / "PYSEC-1.json").write_text(json.dumps(entry("PYSEC-1", affected("PyPI", "x"))))
    (folder / "README.md").write_text("no entry")
    known = database.open_(folder, ignore)
    assert known.ecosystems == {"npm": 1, "PyPI": 1}


def test_what_is_withdrawn_or_no_entry_is_counted_and_left_out(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "all.zip", [ONE, entry("CVE-2", affected("npm", "one"), withdrawn="2026-01-01T00:00:00Z")]
    )
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("broken.json", "{")
        file.writestr("deep.json", "[" * 100_000)
        file.writestr("list.json", "[]")
        file.writestr("other.txt", "text")
    known = database.open_(path, ignore)
    assert ids(known, "npm", "one") == ["CVE-1"]
    assert (known.about.entries, known.about.withdrawn, known.about.unread) == (1, 1, 3)


@pytest.mark.parametrize(
    "broken",
    [
        {"affected": [{"package": {"ecosystem": "npm"}}, {"package": 1}, 7, {}]},
        {"affected": {"package": {}}},
        {"affected": [{"package": {"ecosystem": "npm", "name": "x"}, "ranges": 1, "versions": [1, None], "severity": {}}]},
        {"affected": [{"package": {"ecosystem": "npm", "name": "x"}, "ranges": [{"type": "SEMVER", "events": [1, {"a": 2}]}]}]},
        {"aliases": 1, "severity": [1], "database_specific": [], "details": 3, "summary": None},
    ],
)  # fmt: skip
def test_entries_of_another_form_do_no_harm(tmp_path: Path, broken: dict[str, Any]) -> None:
    known = database.open_(archive(tmp_path / "all.zip", [{**entry("CVE-2"), **broken}, ONE]), ignore)
    assert ids(known, "npm", "one") == ["CVE-1"]
    assert [each.versions for each in known.affected("npm", "x")] in ([], [[]])


def test_what_is_told_has_nothing_that_a_terminal_obeys_or_that_cannot_be_written(tmp_path: Path) -> None:
    one = affected("npm", "one", "2.0.0\x1b[2J\ud800", versions=["1.0.0\x9b"])
    other = affected("npm\ud800", "\ud800", "1.0.0")
    known = database.open_(archive(tmp_path / "all.zip", [entry("CVE-1", one, other)]), ignore)
    [found] = known.affected("npm", "one")
    assert (found.ranges[0]["events"][1], found.versions) == ({"fixed": "2.0.0 [2J"}, ["1.0.0"])
    assert ids(known, "npm", "") == ["CVE-1"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are UTF-8 there")
def test_the_path_of_a_database_may_be_any(tmp_path: Path) -> None:
    path = archive(tmp_path / os.fsdecode(b"\xff\x1b.zip"), [ONE])
    known = database.open_(path, ignore)
    assert known.about.path == f"{tmp_path}/ .zip"


def test_it_is_made_once(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "all.zip", [ONE])
    database.open_(path, ignore).close()
    [made] = indexes(home)
    monkeypatch.setattr(sources, "entries", lambda source: pytest.fail("read again"))
    database.open_(path, ignore).close()
    assert indexes(home) == [made]


def test_it_is_made_anew_when_the_files_have_changed(tmp_path: Path, home: Path) -> None:
    path = archive(tmp_path / "all.zip", [ONE])
    database.open_(path, ignore).close()
    archive(path, [ONE, entry("CVE-2", affected("npm", "one"), severity=LOW)])
    known = database.open_(path, ignore)
    assert ids(known, "npm", "one") == ["CVE-1", "CVE-2"]
    assert len(indexes(home)) == 1
    other = database.open_(archive(tmp_path / "other.zip", [ONE]), ignore)
    assert ids(other, "npm", "one") == ["CVE-1"]
    assert len(indexes(home)) == 2


@pytest.mark.parametrize("raised", [KeyboardInterrupt, CoveError("x"), MemoryError])
def test_an_interrupted_one_leaves_nothing(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    path = archive(tmp_path / "all.zip", [ONE])

    def interrupted(source: sources.Source) -> Iterator[tuple[int, bytes]]:
        yield 1, json.dumps(ONE).encode()
        assert indexes(home)[0].endswith(".partial")
        raise raised

    monkeypatch.setattr(sources, "entries", interrupted)
    with pytest.raises(type(raised) if isinstance(raised, Exception) else raised):  # type: ignore[arg-type]
        database.open_(path, ignore)
    assert indexes(home) == []


def test_what_a_killed_one_has_left_goes_with_the_next(tmp_path: Path, home: Path) -> None:
    folder = home / "cache" / "osv"
    folder.mkdir(parents=True)
    for name, age in (("old.1.partial", 100_000), ("new.2.partial", 0)):
        (folder / name).write_bytes(b"x")
        moment = (folder / name).stat().st_mtime - age
        os.utime(folder / name, (moment, moment))
    database.open_(archive(tmp_path / "all.zip", [ONE]), ignore).close()
    assert [name for name in indexes(home) if name.endswith(".partial")] == ["new.2.partial"]


def test_an_index_that_is_not_used_goes(tmp_path: Path, home: Path) -> None:
    def days_pass(days: int) -> None:
        for path in (home / "cache" / "osv").iterdir():
            moment = path.stat().st_mtime - days * 86400
            os.utime(path, (moment, moment))

    gone, kept = archive(tmp_path / "gone.zip", [ONE]), archive(tmp_path / "kept.zip", [ONE])
    database.open_(gone, ignore).close()
    [old] = indexes(home)
    days_pass(16)
    database.open_(kept, ignore).close()
    assert len(indexes(home)) == 2
    days_pass(16)
    database.open_(kept, ignore).close()
    [left] = indexes(home)
    assert left != old
    days_pass(16)
    database.open_(archive(tmp_path / "other.zip", [ONE]), ignore).close()
    assert left in indexes(home)  # used 16 days ago, made 32


def test_progress_is_told_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BATCH", 1)
    told: list[Event] = []
    path = archive(tmp_path / "all.zip", [ONE, entry("CVE-2")])
    database.open_(path, told.append)
    assert [event.text for event in told] == [
        "1 vulnerabilities of all.zip", "2 vulnerabilities of all.zip", "sorting by package",
    ]  # fmt: skip
    assert told[0].total == path.stat().st_size
    assert 0 < (told[0].done or 0) < (told[1].done or 0) <= path.stat().st_size


@pytest.mark.parametrize("damaged", [b"no database" * 100, b""])
def test_a_damaged_index_is_made_anew(tmp_path: Path, home: Path, damaged: bytes) -> None:
    path = archive(tmp_path / "all.zip", [ONE])
    database.open_(path, ignore).close()
    (home / "cache" / "osv" / indexes(home)[0]).write_bytes(damaged)
    assert ids(database.open_(path, ignore), "npm", "one") == ["CVE-1"]


def test_an_index_that_another_command_removes_is_made_anew(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "all.zip", [ONE])
    tidy = database._tidy

    def removed(folder: Path, place: str, index: Path) -> None:
        tidy(folder, place, index)
        index.unlink()

    monkeypatch.setattr(database, "_tidy", removed)
    assert ids(database.open_(path, ignore), "npm", "one") == ["CVE-1"]


def test_damage_that_is_seen_later_is_told(tmp_path: Path, home: Path) -> None:
    known = database.open_(archive(tmp_path / "all.zip", [ONE]), ignore)
    index = home / "cache" / "osv" / indexes(home)[0]
    with closing(sqlite3.connect(index)) as sql:
        sql.execute("DROP TABLE affected")
        sql.commit()
    with pytest.raises(CoveError, match="is damaged") as caught:
        ids(known, "npm", "one")
    assert "remove it" in caught.value.hint
    known.close()
    index.unlink()
    with pytest.raises(CoveError, match="is damaged"):
        Database(index)
    assert indexes(home) == []


def test_what_is_no_database_is_told(tmp_path: Path, home: Path) -> None:
    (tmp_path / "empty").mkdir()
    text = tmp_path / "all.zip"
    text.write_text("no archive")
    none = archive(tmp_path / "none.zip", [])
    cut = tmp_path / "cut.zip"
    cut.write_bytes(archive(tmp_path / "whole.zip", [ONE]).read_bytes()[:-30])
    for path, said in (
        (tmp_path / "missing.zip", "No such file"),
        (tmp_path / "empty", "no .zip and no .json file"),
        (text, "cannot be read"),
        (cut, "cannot be read"),
        (none, "no entry of an OSV database"),
    ):
        with pytest.raises(CoveError, match=said):
            database.open_(path, ignore)
    assert indexes(home) == []


def test_an_entry_larger_than_any_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_ENTRY", 2000)
    bomb = entry("CVE-2", affected("npm", "one"), details="x" * 100_000)
    folder = tmp_path / "osv"
    folder.mkdir()
    archive(folder / "all.zip", [ONE, bomb])
    (folder / "CVE-2.json").write_text(json.dumps(bomb))
    known = database.open_(folder, ignore)
    assert ids(known, "npm", "one") == ["CVE-1"]
    assert known.about.unread == 2


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_an_entry_that_is_damaged_is_counted_and_left_out(tmp_path: Path, method: int) -> None:
    path = archive(tmp_path / "all.zip", [ONE])
    with zipfile.ZipFile(path, "a", method) as file:
        start = file.start_dir + 30 + len("CVE-2.json")
        file.writestr("CVE-2.json", json.dumps(entry("CVE-2", affected("npm", "one"))))
    data = bytearray(path.read_bytes())
    data[start + 4 : start + 60] = b"\xff" * 56
    path.write_bytes(data)
    known = database.open_(path, ignore)
    assert ids(known, "npm", "one") == ["CVE-1"]
    assert known.about.unread == 1


def test_names_that_are_not_what_an_archive_says_are_told(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("\u00e9.json", json.dumps(ONE))
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xff\xff"))
    with pytest.raises(CoveError, match="cannot be read"):
        database.open_(path, ignore)
