"""The engine's metadata: one SQLite file.

WAL with synchronous=FULL: when a call that changes something returns, the change survives the machine's death; a kill
at any instant leaves the state before or after a transaction. The connection belongs to the event loop's thread:
statements take microseconds, a commit one fsync.

Not every change has to outlive the machine before anybody may be told of it. One that is committed with ``lasting=False``
survives whatever becomes of the engine; the machine's death it survives some tenths of a second later (``settling``), or once
a change has been committed that lasts. Commits keep their order (sqlite.org/wal.html, and "synchronous" in
sqlite.org/pragma.html): none outlives the machine without those before it.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from coved.errors import EngineError, no_space
from coved.store.headroom import Headroom, alone_by_need, lengthen
from coved.store.settling import Settling

Parameters = Sequence[object] | Mapping[str, object]
Row = sqlite3.Row


class SchemaTooNew(EngineError):
    """The data was written by a newer Cove, which this one must not touch."""


class Database:
    """Domains declare their tables with ``migrate`` and touch no one else's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._depth = 0
        self._after: list[Callable[[], object]] = []
        self._settling = Settling(path.with_name(f"{path.name}-wal"))
        with self._errors():
            if alone_by_need(path.parent):
                self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_versions (domain TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT"
            )
            self._headroom = Headroom(self._connection, path.with_name(f"{path.name}-wal"))
            self._headroom.mind()

    def migrate(self, domain: str, steps: Sequence[str]) -> int:
        """Brings a domain's tables up to date. Gives the version that they had, 0 when there were none.

        Args:
            domain: The owner of the tables, such as "images".
            steps: SQL scripts, one for each schema version, oldest first; published steps are never edited.

        Raises ``SchemaTooNew`` when the tables are from a later version than the last step.
        """
        with self.transaction():
            row = self.query_one("SELECT version FROM schema_versions WHERE domain = ?", (domain,))
            version = row["version"] if row else 0
            if version > len(steps):
                raise SchemaTooNew(
                    f"{self._path} holds {domain} data of version {version}, this engine knows {len(steps)}: "
                    "update Cove, or start with another data directory"
                )
            for step in steps[version:]:
                for statement in _statements(step):
                    self.execute(statement)
            if version < len(steps):  # or every start would wait for the disk, once for each domain
                sql = "INSERT OR REPLACE INTO schema_versions VALUES (?, ?)"
                self.execute(sql, (domain, len(steps)))
        return version

    @contextlib.contextmanager
    def transaction(self, *, lasting: bool = True) -> Iterator[None]:
        """All or nothing; the outermost of nested ones commits. There must be no await inside.

        ``lasting`` is the outermost one's to say, and needs an event loop when it is False.
        """
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        with self._errors():
            self._headroom.mind()
        if not lasting:
            self._connection.execute("PRAGMA synchronous=NORMAL")
        try:
            with self._errors():
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth, changes = 1, self._connection.total_changes
            try:
                yield
            except BaseException:
                self._rollback()
                raise
            try:
                with self._errors():
                    self._connection.execute("COMMIT")
            except EngineError:
                self._rollback()
                raise
            after, self._after = self._after, []
        finally:
            self._depth = 0
            self._after.clear()
            if not lasting:
                self._connection.execute("PRAGMA synchronous=FULL")
        if not lasting:
            self._settling.changed()
        elif self._connection.total_changes > changes:  # SQLite writes, and syncs, nothing when nothing has changed
            self._settling.settled()
        for call in after:
            call()

    def after_commit(self, call: Callable[[], object]) -> None:
        """Calls ``call`` when the transaction has been committed, and never when it is not; at once outside of one.

        For what is kept in memory as well: a full disk lets a commit fail, and memory must not know better then.
        """
        if self._depth:
            self._after.append(call)
        else:
            call()

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Runs one statement and gives the number of rows that it changed; it commits unless in a transaction."""
        with self._errors():
            if not self._depth:
                self._headroom.mind()
            return self._connection.execute(sql, parameters).rowcount

    def query(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        with self._errors():
            return self._connection.execute(sql, parameters).fetchall()

    def query_one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row, None when there is none."""
        with self._errors():
            row: Row | None = self._connection.execute(sql, parameters).fetchone()
            return row

    def close(self) -> None:
        self._settling.settled()  # by what follows: it brings everything into the database itself, and that to the disk
        self._connection.close()
        lengthen(self._path.with_name(f"{self._path.name}-wal"))  # for the next engine, which may find the disk full

    def _rollback(self) -> None:
        # SQLite has rolled back on its own after some errors (lang_transaction.html): then there is nothing left to do.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                raise no_space(str(self._path)) from error
            raise


def _statements(script: str) -> Iterator[str]:
    """Splits a script at its complete statements (``executescript`` would commit the open transaction)."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            if statement.strip("; \n"):
                yield statement
            statement = ""
