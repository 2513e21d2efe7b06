"""Engines of other versions on the same data: brought up to date, gone back, or refused; killed at every step."""

import importlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import coved
import pytest
from coved.store import upgrading
from coved.store.database import Database, SchemaTooNew

OLD = ("CREATE TABLE things (name TEXT) STRICT;",)
NEW = (*OLD, "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 3;", "DELETE FROM things WHERE name = 'a';")


def run(path: Path, steps: tuple[str, ...], *, lets_in: bool = True) -> list[str]:
    """An engine that knows these steps; the names that it found."""
    database = upgrading.opened(path, {"things": len(steps)})
    database.migrate("things", steps)
    found = [row["name"] for row in database.query("SELECT name FROM things ORDER BY name")]
    if not found and len(steps) == 1:
        database.execute("INSERT INTO things VALUES ('a'), ('b')")
    if lets_in:
        upgrading.let_in(path)
    database.close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "metadata.db"
    run(path, OLD)
    assert run(path, OLD) == ["a", "b"]
    assert {file.name for file in tmp_path.iterdir()} == {"metadata.db", "metadata.db-wal"}
    return path


def test_an_older_engine_refuses_what_a_newer_one_has_worked_with(path: Path) -> None:
    assert run(path, NEW) == ["b"]
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match=r"a newer Cove, whose tables this one does not know \(things 3\)"):
        run(path, OLD)
    assert path.read_bytes() == before
    assert run(path, NEW) == ["b"]


def test_an_older_engine_puts_back_what_a_newer_one_that_never_answered_has_changed(path: Path) -> None:
    assert run(path, NEW, lets_in=False) == ["b"]
    assert run(path, (*NEW, "CREATE TABLE more (x);"), lets_in=False) == ["b"]  # nor did the next
    assert run(path, OLD) == ["a", "b"]
    assert run(path, NEW) == ["b"]


def test_a_domain_that_is_not_known_is_refused(path: Path) -> None:
    database = Database(path)
    database.migrate("others", ("CREATE TABLE others (x);",))
    database.close()
    with pytest.raises(SchemaTooNew, match="others 1"):
        run(path, OLD)


def test_without_room_for_a_copy_the_engine_starts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrading, "_sync", lambda _: (_ for _ in ()).throw(OSError(28, "no room")))
    assert run(path, NEW, lets_in=False) == ["b"]
    assert {file.name for file in path.parent.iterdir()} == {"metadata.db", "metadata.db-wal"}


def killed(path: Path, step: int, steps: tuple[str, ...]) -> bool:
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    try:
        left = step

        def count() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def hook(event: str, _: Any) -> None:
            if event in ("open", "os.rename", "os.remove"):
                count()

        sys.addaudithook(hook)
        execute = Database.execute

        def counted(self: Database, *words: Any) -> int:
            count()
            return execute(self, *words)

        Database.execute = counted  # type: ignore[method-assign]
        run(path, steps, lets_in=False)
    finally:
        os._exit(0)


def test_whatever_step_is_the_last_the_older_engine_finds_its_data(tmp_path: Path) -> None:
    for kind in ("update", "back"):
        step, more = 1, True
        while more:
            path = tmp_path / f"{kind}{step}" / "metadata.db"
            run(path, OLD)
            if kind == "back":
                run(path, NEW, lets_in=False)
            more = killed(path, step, NEW if kind == "update" else OLD)
            assert run(path, OLD) == ["a", "b"]
            assert run(path, NEW) == ["b"]
            step += 1
        assert step > 5


def test_the_versions_are_those_of_the_domains() -> None:
    found = {}
    for file in Path(coved.__file__).parent.rglob("*.py"):
        for domain, steps in re.findall(r'\.migrate\(\s*"([^"]+)", (\w+|\(.*\))\)', text := file.read_text()):
            module = importlib.import_module(
                ".".join(file.relative_to(Path(coved.__file__).parents[1]).with_suffix("").parts)
            )
            found[domain] = len(getattr(module, steps)) if steps.isidentifier() else text.count("CREATE TABLE engine")
    assert found == upgrading.KNOWN
