import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from coved.errors import StorageFull
from coved.store import headroom
from coved.store.database import Database, SchemaTooNew
from coved.store.headroom import ENOUGH_PAGES, LOG_BYTES

STEPS = ("CREATE TABLE things (name TEXT PRIMARY KEY) STRICT; CREATE INDEX by_name ON things (name);",)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "metadata.db")
    database.migrate("things", STEPS)
    return database


def names(database: Database) -> list[str]:
    return [row["name"] for row in database.query("SELECT name FROM things ORDER BY name")]


def test_commits_reach_the_disk(database: Database) -> None:
    assert database.query("PRAGMA journal_mode")[0][0] == "wal"
    assert database.query("PRAGMA synchronous")[0][0] == 2  # FULL
    assert database.query("PRAGMA foreign_keys")[0][0] == 1


def test_migrations_run_once_and_go_on(database: Database, tmp_path: Path) -> None:
    database.execute("INSERT INTO things VALUES ('a')")
    database.close()
    again = Database(tmp_path / "metadata.db")
    again.migrate("things", (*STEPS, "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 3;"))
    assert again.query("SELECT name, size FROM things")[0]["size"] == 3


def test_data_of_a_newer_engine_is_left_alone(database: Database, tmp_path: Path) -> None:
    database.migrate("things", (*STEPS, "CREATE TABLE more (x) ;"))
    with pytest.raises(SchemaTooNew, match="update Cove"):
        database.migrate("things", STEPS)


def test_a_failed_migration_changes_nothing(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError):
        database.migrate("others", ("CREATE TABLE others (x); CREATE TABLE others (x);",))
    assert database.query("SELECT name FROM sqlite_master WHERE name = 'others'") == []


def test_transactions_are_all_or_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction():
        database.execute("INSERT INTO things VALUES ('a')")
        with database.transaction():
            database.execute("INSERT INTO things VALUES ('b')")
        raise RuntimeError
    assert names(database) == []
    with database.transaction():
        database.execute("INSERT INTO things VALUES ('a')")
        with database.transaction():
            database.execute("INSERT INTO things VALUES ('b')")
    assert names(database) == ["a", "b"]


def test_a_full_disk_is_told_in_words(database: Database) -> None:
    pages = database.query("PRAGMA page_count")[0][0]
    database.query(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull, match="no space left"):
        with database.transaction():
            for number in range(10_000):
                database.execute("INSERT INTO things VALUES (?)", (f"{number}" * 100,))
    assert names(database) == []
    database.query("PRAGMA max_page_count = 100000")
    database.execute("INSERT INTO things VALUES ('works again')")


def test_a_kill_leaves_only_whole_transactions(tmp_path: Path) -> None:
    program = f"""
import os
from pathlib import Path
from coved.store import headroom
from coved.store.database import Database
from coved.store.headroom import ENOUGH_PAGES, LOG_BYTES
database = Database(Path({str(tmp_path / "metadata.db")!r}))
database.migrate("things", {STEPS!r})
database.execute("INSERT INTO things VALUES ('kept')")
with database.transaction():
    database.execute("INSERT INTO things VALUES ('lost')")
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == -9
    assert names(Database(tmp_path / "metadata.db")) == ["kept"]


def test_memory_follows_the_commit(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    database.migrate("things", STEPS)
    told: list[str] = []
    with database.transaction():
        with database.transaction():
            database.after_commit(lambda: told.append("inner"))
        assert told == []
    assert told == ["inner"]
    with pytest.raises(ZeroDivisionError), database.transaction():
        database.after_commit(lambda: told.append("never"))
        raise ZeroDivisionError
    with database.transaction():
        pass
    database.after_commit(lambda: told.append("at once"))
    assert told == ["inner", "at once"]


def test_nothing_is_kept_back_for_removals_by_a_disk_with_room(database: Database) -> None:
    with database.transaction():  # more than there are free pages
        for number in range(2000):
            database.execute("INSERT INTO things VALUES (?)", (f"{number}" * 200,))
    assert len(names(database)) == 2000
    database.execute("DELETE FROM things WHERE name LIKE '0%'")
    assert database.query("PRAGMA freelist_count")[0][0] >= ENOUGH_PAGES - 10


def test_the_log_has_its_blocks_before_anything_is_in_it_and_after_the_last_close(
    database: Database, tmp_path: Path
) -> None:
    def allocated() -> int:
        return (tmp_path / "metadata.db-wal").stat().st_blocks * 512

    assert allocated() >= LOG_BYTES
    database.execute("INSERT INTO things VALUES ('a')")
    database.close()
    assert allocated() >= LOG_BYTES
    assert names(Database(tmp_path / "metadata.db")) == ["a"]


def test_a_full_disk_takes_nothing_new_before_the_log_is_full(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        database.execute("INSERT INTO things VALUES (?)", (f"{number}",))
    monkeypatch.setattr(headroom, "LOW_BYTES", 1 << 62)
    pages = database.query("PRAGMA page_count")[0][0]
    with pytest.raises(StorageFull, match="remove images"):
        for number in range(100, 10_000):
            database.execute("INSERT INTO things VALUES (?)", (f"{number}" * 200,))
    assert database.query("PRAGMA page_count")[0][0] == pages
    for name in names(database):
        database.execute("DELETE FROM things WHERE name = ?", (name,))
    assert names(database) == []
    monkeypatch.setattr(headroom, "LOW_BYTES", 0)
    test_nothing_is_kept_back_for_removals_by_a_disk_with_room(database)


def test_without_room_there_is_no_file_of_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headroom, "LOW_INODES", 1 << 62)
    database = Database(tmp_path / "metadata.db")
    database.migrate("things", STEPS)
    database.execute("INSERT INTO things VALUES ('a')")
    assert not (tmp_path / "metadata.db-shm").exists()
    database.close()
    monkeypatch.undo()
    assert names(Database(tmp_path / "metadata.db")) == ["a"]
