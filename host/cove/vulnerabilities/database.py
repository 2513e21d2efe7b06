"""A database of OSV's, by package: an index in SQLite that is made once of its files, and again when they have changed.

It lies in the user's cache, one for each place of a database. It is written beside its place and renamed when it is complete, so that an
interrupted one is never used.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cove.contents.package import clean
from cove.errors import CoveError
from cove.machine.paths import cache_dir
from cove.progress import Event, Report
from cove.vulnerabilities import ecosystems, severity, sources
from cove.vulnerabilities.severity import Level, Severity
from cove.vulnerabilities.sources import Source

_FORMAT = 2
"""Of the index: of another nothing is read."""
_BATCH = 2000
_STALE_S = 86400.0
"""After which what an interrupted command has left is removed."""
_UNUSED_S = 30 * 86400.0
"""After which an index that nobody has used is: its database may be gone."""
_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE entries (number INTEGER PRIMARY KEY, id TEXT NOT NULL, document BLOB NOT NULL);
CREATE TABLE affected (ecosystem TEXT NOT NULL, name TEXT NOT NULL, entry INTEGER NOT NULL, document BLOB NOT NULL);
CREATE TABLE ecosystems (ecosystem TEXT PRIMARY KEY, entries INTEGER NOT NULL);
"""
_INDEXES = """
CREATE INDEX affected_by_name ON affected (ecosystem, name);
CREATE INDEX entries_by_id ON entries (id);
INSERT INTO ecosystems SELECT ecosystem, COUNT(DISTINCT entry) FROM affected GROUP BY ecosystem;
"""


@dataclass(frozen=True, slots=True)
class About:
    """`newest` is when the entry that changed last did so, as OSV writes times; `unread` are entries that were no entries."""

    path: str
    newest: str
    entries: int
    withdrawn: int
    unread: int


@dataclass(frozen=True, slots=True)
class Entry:
    identifier: str
    aliases: tuple[str, ...]
    upstream: tuple[str, ...]
    summary: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Affected:
    """What an entry says of one package; `severity` is the entry's, or, where it gives one, that of this package."""

    entry: Entry
    severity: Severity
    ranges: list[Mapping[str, Any]]
    versions: list[str]


class Database:
    """An open index. Raises `CoveError` for one that is damaged."""

    def __init__(self, index: Path) -> None:
        self._index = index
        try:
            # Of one that is not there SQLite would make an empty one.
            self._sql = sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        try:
            stated = dict(self._all("SELECT name, value FROM about"))
            self.ecosystems: dict[str, int] = dict(self._all("SELECT ecosystem, entries FROM ecosystems"))
        except CoveError:
            self.close()
            raise
        counts = (int(stated[name]) for name in ("entries", "withdrawn", "unread"))
        self.about = About(stated["path"], stated["newest"], *counts)

    def close(self) -> None:
        self._sql.close()

    def affected(self, ecosystem: str, name: str) -> Iterator[Affected]:
        rows = self._all(
            "SELECT affected.document, entries.id, entries.document FROM affected JOIN entries ON number = entry"
            " WHERE ecosystem = ? AND name = ? ORDER BY entries.id, affected.rowid",
            (ecosystem, name),
        )
        for packed, identifier, document in rows:
            found, entry = _unpacked(packed), _entry(identifier, document)
            own = severity.of("", found["scores"], found["words"])
            stated = entry.severity if own.level is Level.UNKNOWN else own
            yield Affected(entry, stated, found["ranges"], found["versions"])

    def severity(self, identifier: str) -> Severity:
        """That of the entry with this id, if there is one."""
        rows = self._all("SELECT id, document FROM entries WHERE id = ?", (identifier,))
        return severity.highest(_entry(*row).severity for row in rows)

    def _all(self, query: str, values: tuple[str, ...] = ()) -> list[Any]:
        try:
            return self._sql.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: sqlite3.DatabaseError) -> CoveError:
        return CoveError(f"the index {self._index} is damaged: {error}", "remove it: it will be made anew")


def open_(path: Path, report: Report) -> Database:
    """The database at `path`, whose index is made first where there is none that can be read. Raises `CoveError`."""
    found = sources.find(path)
    folder = cache_dir() / "osv"
    place = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
    index = folder / f"{place}-{_FORMAT}-{sources.fingerprint(found)[:24]}.db"
    if not index.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(index, path, found, report)
    with suppress(OSError):  # it may be another user's, or on a disk that is only read
        os.utime(index)
    _tidy(folder, place, index)
    try:
        return Database(index)
    except CoveError:  # it is damaged, or another command has removed it since
        _make(index, path, found, report)
        return Database(index)


def _make(index: Path, path: Path, found: list[Source], report: Report) -> None:
    partial = index.with_suffix(f".{os.getpid()}.partial")
    try:
        with closing(sqlite3.connect(partial)) as sql:
            sql.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
            _fill(sql, path, found, report)
            report(Event("index", "sorting by package"))
            sql.executescript(_INDEXES)
            sql.commit()
        try:
            partial.replace(index)
        except PermissionError:
            if not index.exists():  # on Windows another command that has made it too may have it open
                raise
    except (OSError, sqlite3.Error) as error:
        raise CoveError(f"the index of {path} cannot be written into {index.parent}: {error}") from error
    finally:
        with suppress(OSError):  # nobody looks at it again, and the next index removes it
            partial.unlink(missing_ok=True)


def _tidy(folder: Path, place: str, index: Path) -> None:
    """Remove older indexes of the same database, those that have not been used for long, and what interrupted commands have left."""
    now = time.time()
    for each in folder.iterdir():
        with suppress(OSError):  # another command may use it, or has removed it
            unused_s = now - each.stat().st_mtime
            old = each.name.startswith(f"{place}-") or unused_s > _UNUSED_S
            if (each.suffix == ".db" and old and each != index) or (each.suffix == ".partial" and unused_s > _STALE_S):
                each.unlink()


def _fill(sql: sqlite3.Connection, path: Path, found: list[Source], report: Report) -> None:
    total = sum(source.size for source in found)
    done = entries = withdrawn = unread = 0
    newest = ""
    rows: list[tuple[int, str, bytes]] = []
    affected: list[tuple[str, str, int, bytes]] = []
    for source in found:
        for size, data in sources.entries(source):
            done += size
            document = _document(data)
            if document is None:
                unread += 1
                continue
            newest = max(newest, clean(str(document.get("modified", ""))))
            if document.get("withdrawn"):
                withdrawn += 1
                continue
            entries += 1
            rows.append((entries, document["id"], _packed(_facts(document))))
            affected += ((*named, entries, _packed(facts)) for named, facts in _affected(document))
            if len(rows) >= _BATCH:
                _insert(sql, rows, affected)
                report(Event("index", f"{entries} vulnerabilities of {path.name}", min(done, total), total))
    _insert(sql, rows, affected)
    if not entries and not withdrawn:
        raise CoveError(f"there is no entry of an OSV database in {path}", "is it what osv.dev publishes?")
    about = {"path": clean(str(path)), "newest": newest, "entries": entries, "withdrawn": withdrawn, "unread": unread}
    sql.executemany("INSERT INTO about VALUES (?, ?)", [(name, str(value)) for name, value in about.items()])


def _insert(
    sql: sqlite3.Connection, rows: list[tuple[int, str, bytes]], affected: list[tuple[str, str, int, bytes]]
) -> None:
    sql.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
    sql.executemany("INSERT INTO affected VALUES (?, ?, ?, ?)", affected)
    rows.clear()
    affected.clear()


def _document(data: bytes | None) -> dict[str, Any] | None:
    """An entry, or None for what is none."""
    try:
        found = json.loads(data or b"")
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("id"), str) or "modified" not in found:
        return None
    return found | {"id": clean(found["id"])}


def _facts(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "aliases": _texts(document.get("aliases")),
        "upstream": _texts(document.get("upstream")),
        "summary": clean(str(document.get("summary") or _first_line(document.get("details")))),
        "scores": _list(document.get("severity")),
        "words": [_object(document.get("database_specific")).get("severity")],
    }


def _affected(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """Each package that an entry is about, as ecosystem and name, and what it says of it."""
    for each in _list(document.get("affected")):
        package = _object(_object(each).get("package"))
        ecosystem, name = package.get("ecosystem"), package.get("name")
        if not isinstance(ecosystem, str) or not isinstance(name, str):
            continue
        own = [_object(each.get(field)) for field in ("ecosystem_specific", "database_specific")]
        facts = {
            "ranges": [
                {"type": one.get("type"), "events": [_events(event) for event in _list(one.get("events"))]}
                for one in map(_object, _list(each.get("ranges")))
                if one.get("type") != "GIT"
            ],
            "versions": _texts(each.get("versions")),
            "scores": _list(each.get("severity")),
            "words": [one.get(field) for one in own for field in ("severity", "urgency")],
        }
        yield (clean(ecosystem), ecosystems.normal(ecosystem, clean(name))), facts


def _events(event: Any) -> dict[str, str]:
    return {what: clean(at) for what, at in _object(event).items() if isinstance(at, str)}


def _entry(identifier: str, packed: bytes) -> Entry:
    found = _unpacked(packed)
    level = severity.of(identifier, found["scores"], found["words"])
    return Entry(identifier, tuple(found["aliases"]), tuple(found["upstream"]), found["summary"], level)


def _packed(document: Mapping[str, Any]) -> bytes:
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)


def _unpacked(packed: bytes) -> dict[str, Any]:
    return dict(json.loads(zlib.decompress(packed)))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> list[str]:
    return [clean(each) for each in _list(value) if isinstance(each, str)]


def _first_line(details: Any) -> str:
    return next((line for line in str(details or "").splitlines() if line.strip()), "")
