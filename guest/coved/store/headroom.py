"""Room that the database keeps for itself, so that things can be removed, and an engine can start, when the disk is full.

Whatever SQLite writes for a removal goes to blocks that its files have already (docs/decisions/0029): the write-ahead log
has its full length from the beginning and is there when the database is closed, too; the database has free pages; and
neither grows while the disk is all but full. Nothing here needs room at that time, so that a container that goes on writing
takes none of it away.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

CHECKPOINT_PAGES = 500
"""With so many in the write-ahead log they are brought into the database, and the log is written from its beginning again."""
LOG_BYTES = 4 << 20
"""Twice of that, and some: for what is removed before there is room in the database for what was written last."""
FREE_PAGES = 128
ENOUGH_PAGES = 64
"""Free pages are made when there are fewer than this."""
LOW_BYTES = 8 << 20
"""With less room than this for others, nothing new may take from what removals need."""
LOW_INODES = 64
_NO_LIMIT = 0x3FFFFFFF  # pages; SQLite's own default (limits.html)


class Headroom:
    """Of one connection, which belongs to the caller; ``log`` is its write-ahead log.

    Nothing raises but sqlite3.Error for what has to do with more than room.
    """

    def __init__(self, connection: sqlite3.Connection, log: Path) -> None:
        self._connection = connection
        self._log = log
        self._limited = False
        self._log_is_long = False
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        connection.execute("CREATE TABLE IF NOT EXISTS headroom (pages BLOB) STRICT")

    def mind(self) -> None:
        """To be called before each transaction: microseconds, and some milliseconds once in a hundred containers."""
        low = self._is_low()
        if low != self._limited:
            # A page more in the database would be written to the log now, and could not leave it later.
            pages = self._number("page_count") if low else _NO_LIMIT
            self._connection.execute(f"PRAGMA max_page_count={pages}")
            self._limited = low
        if low:
            return
        if not self._log_is_long:
            self._log_is_long = lengthen(self._log)
        if self._number("freelist_count") < ENOUGH_PAGES:
            self._make_free_pages()

    def _is_low(self) -> bool:
        there = os.statvfs(self._log.parent)
        return there.f_bavail * there.f_frsize < LOW_BYTES

    def _number(self, pragma: str) -> int:
        return int(self._connection.execute(f"PRAGMA {pragma}").fetchone()[0])

    def _make_free_pages(self) -> None:
        """In two transactions: pages that come and go in one are never written, and would have no blocks."""
        with contextlib.suppress(sqlite3.OperationalError):  # no room after all: the next time
            self._connection.execute(
                "INSERT INTO headroom VALUES (zeroblob(?))", (FREE_PAGES * self._number("page_size"),)
            )
            self._connection.execute("DELETE FROM headroom")
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def lengthen(log: Path) -> bool:
    """Gives the write-ahead log all its blocks, and an inode if there is none, as after SQLite's last close.

    Zeros are no frames to SQLite, which tells its own by their checksums (walformat.html). False when there is no room.
    """
    try:
        fd = os.open(log, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(fd, 0, LOG_BYTES)
        finally:
            os.close(fd)
    except OSError:
        return False
    return True


def alone_by_need(folder: Path) -> bool:
    """Whether the database is to be opened with locking_mode=EXCLUSIVE: then its index of the log is in the process's memory,
    and not in a file that takes an inode and blocks, or SIGBUS when there are none (wal.html, "WAL without shared memory")."""
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize < LOW_BYTES or (there.f_files > 0 and there.f_favail < LOW_INODES)
