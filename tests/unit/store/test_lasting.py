"""Changes that survive the machine's death at once, and those that only do so a moment later."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from coved.store import settling
from coved.store.database import Database

LATE_S = 10.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "metadata.db")
    database.migrate("things", ("CREATE TABLE things (name TEXT PRIMARY KEY) STRICT;",))
    yield database
    database.close()


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What has been brought to the disk apart from commits that last."""
    done: list[Path] = []
    real = settling._sync

    def sync(path: Path) -> None:
        real(path)
        done.append(path)

    monkeypatch.setattr(settling, "_sync", sync)
    return done


def add(database: Database, name: str, *, lasting: bool) -> int:
    """How SQLite commits it: 1 is NORMAL, which does not wait for the disk, and 2 is FULL."""
    with database.transaction(lasting=lasting):
        database.execute("INSERT INTO things VALUES (?)", (name,))
        return int(database.query("PRAGMA synchronous")[0][0])


def names(database: Database) -> list[str]:
    return [row["name"] for row in database.query("SELECT name FROM things ORDER BY rowid")]


async def settled(syncs: list[Path], number: int) -> None:
    async with asyncio.timeout(LATE_S):
        while len(syncs) < number:  # noqa: ASYNC110 - it happens in a thread
            await asyncio.sleep(0.01)


def test_only_what_need_not_last_does_not_wait_for_the_disk(database: Database, syncs: list[Path]) -> None:
    async def scenario() -> None:
        assert add(database, "a", lasting=False) == 1
        assert add(database, "b", lasting=True) == 2
        with pytest.raises(ZeroDivisionError), database.transaction(lasting=False):
            raise ZeroDivisionError
        assert database.query("PRAGMA synchronous")[0][0] == 2
        with database.transaction(lasting=True), database.transaction(lasting=False):
            assert database.query("PRAGMA synchronous")[0][0] == 2

    asyncio.run(scenario())
    assert names(database) == ["a", "b"]


def test_it_is_brought_to_the_disk_a_moment_later_and_once(
    database: Database, tmp_path: Path, syncs: list[Path]
) -> None:
    async def scenario() -> None:
        for name in "abc":
            add(database, name, lasting=False)
        assert syncs == []
        await settled(syncs, 1)
        add(database, "d", lasting=False)
        await settled(syncs, 2)

    asyncio.run(scenario())
    assert syncs == [tmp_path / "metadata.db-wal"] * 2


def test_a_change_that_lasts_carries_those_before_it_along(database: Database, syncs: list[Path]) -> None:
    async def scenario() -> None:
        add(database, "a", lasting=False)
        add(database, "b", lasting=True)
        await asyncio.sleep(3 * settling.SETTLE_S)
        assert syncs == []
        add(database, "c", lasting=False)
        with database.transaction():  # SQLite does not sync what changes nothing
            database.execute("DELETE FROM things WHERE name = 'nobody'")
        await settled(syncs, 1)

    asyncio.run(scenario())


def test_what_cannot_be_brought_to_the_disk_is_logged(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    async def scenario() -> None:
        add(database, "a", lasting=False)
        async with asyncio.timeout(LATE_S):
            while not caplog.records:  # noqa: ASYNC110 - it happens in a thread
                await asyncio.sleep(0.01)

    monkeypatch.setattr(os, "fdatasync", fail)
    asyncio.run(scenario())
    assert "may not outlive the machine: Input/output error" in caplog.text


def test_a_power_cut_takes_the_last_changes_and_never_one_before_them(database: Database, tmp_path: Path) -> None:
    """However much of the log has reached the disk: what is left is what there was after one of the commits."""

    async def scenario() -> None:
        for number in range(6):
            add(database, f"{number}" * 3000, lasting=number % 3 == 0)

    asyncio.run(scenario())
    every = names(database)
    log = (tmp_path / "metadata.db-wal").read_bytes()
    left = set()
    # The log has its full length from the beginning; what was written lies in its first part.
    for size in (*range(0, 256 << 10, 2060), len(log)):
        folder = tmp_path / f"cut-{size}"
        folder.mkdir()
        shutil.copy(tmp_path / "metadata.db", folder / "metadata.db")
        (folder / "metadata.db-wal").write_bytes(log[:size])
        after = Database(folder / "metadata.db")
        if after.query("SELECT name FROM sqlite_master WHERE name = 'things'"):
            there = names(after)
            assert there == every[: len(there)]
            left.add(len(there))
        after.close()
        shutil.rmtree(folder)
    assert left == set(range(7))
