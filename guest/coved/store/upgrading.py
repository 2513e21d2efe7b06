"""What an engine of another version has left: opened, brought up to date with a way back, or left alone (docs/decisions/0049).

The database is copied before the first engine of a newer version brings it up to date. The copy goes when that engine lets clients in;
so one that is found tells of an engine that never did, and an older one that is started again puts it back: nobody has seen, or
changed, anything in between.
"""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from coved.errors import EngineError
from coved.store.database import Database, SchemaTooNew

_log = logging.getLogger(__name__)

KNOWN = {
    "engine": 1,
    "images": 3,
    "volumes": 1,
    "networks": 2,
    "containers": 2,
    "registry": 1,
    "build snapshots": 1,
    "build_steps": 1,
    "build cache mounts": 1,
}
"""The versions that each domain's tables have (``Database.migrate``)."""
LATER = frozenset({"registry", "build_steps", "build cache mounts"})
"""Domains that make their tables when something is pulled or built for the first time, and not at the start."""
_LOG_HEADER = 32


def opened(path: Path, known: Mapping[str, int] = KNOWN) -> Database:
    """The engine's database. Raises ``SchemaTooNew``, and then nothing has changed."""
    database, copy = Database(path), _copy_of(path)
    there = _versions(database)
    if newer := _newer(there, known):
        database.close()
        _put_back(path, copy, known, newer)
        return opened(path, known)
    if there and any(
        there.get(domain, 0) < version for domain, version in known.items() if domain in there or domain not in LATER
    ):
        _keep(database, copy)
    return database


def let_in(path: Path) -> None:
    """Clients are let in: from now on there is no way back to what was before."""
    _copy_of(path).unlink(missing_ok=True)


def _copy_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}.before{path.suffix}")


def _versions(database: Database) -> dict[str, int]:
    return {row["domain"]: row["version"] for row in database.query("SELECT domain, version FROM schema_versions")}


def _newer(there: Mapping[str, int], known: Mapping[str, int]) -> str:
    """What an engine that knows these versions does not understand, in words; "" when it understands all."""
    found = [f"{domain} {version}" for domain, version in there.items() if version > known.get(domain, 0)]
    return ", ".join(sorted(found))


def _keep(database: Database, copy: Path) -> None:
    """One that is there already is older, and stays: engines that never let clients in may follow each other."""
    if copy.exists():
        return
    unfinished = copy.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    try:
        database.execute("VACUUM INTO ?", (str(unfinished),))
        _sync(unfinished)
        unfinished.replace(copy)
        _sync(copy.parent)
        _log.info("there is a copy of the database as it was, until clients are let in: what comes is a newer version")
    except (EngineError, OSError, sqlite3.Error) as error:
        # A full disk must let things be removed: the engine starts without.
        _log.warning("the database is brought up to date without a copy: %s", error)
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _put_back(path: Path, copy: Path, known: Mapping[str, int], newer: str) -> None:
    """Raises ``SchemaTooNew``."""
    if not copy.exists() or _newer(_versions_of(copy), known):
        raise SchemaTooNew(
            f"the data was written by a newer Cove, whose tables this one does not know ({newer}): take the newer one again"
        )
    log = path.with_name(f"{path.name}-wal")
    # What is in a log would be brought into whatever database is beside it (walformat.html).
    with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
        if any(file.read(_LOG_HEADER)):
            raise SchemaTooNew(f"{log} is not empty: the copy of the database cannot be put in its place")
    copy.replace(path)
    _sync(path.parent)
    _log.warning(
        "a newer engine that never came to answer has changed the database (%s): the copy of before is back", newer
    )


def _versions_of(copy: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT domain, version FROM schema_versions"))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
