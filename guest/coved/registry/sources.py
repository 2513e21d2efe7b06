"""Which blob of which repository a layer is: what was pulled from there, or pushed to it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from coved.store.database import Database

_SCHEMA = (
    """
    CREATE TABLE layer_sources (
        diff_id TEXT NOT NULL,
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,
        size INTEGER NOT NULL,
        seen_ns INTEGER NOT NULL,
        PRIMARY KEY (diff_id, repository, digest)
    ) STRICT;
    """,
)
_KEPT = 50
"""Of one layer, as dockerd keeps."""


@dataclass(frozen=True)
class Source:
    """``repository`` is canonical, with its registry; ``size`` is the blob's."""

    repository: str
    digest: str
    size: int


class Sources:
    """Belongs to the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("registry", _SCHEMA)

    def of(self, diff_id: str) -> list[Source]:
        """The latest first."""
        rows = self._database.query(
            "SELECT repository, digest, size FROM layer_sources WHERE diff_id = ? ORDER BY seen_ns DESC", (diff_id,)
        )
        return [Source(row["repository"], row["digest"], row["size"]) for row in rows]

    def add(self, diff_id: str, source: Source) -> None:
        with self._database.transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO layer_sources VALUES (?, ?, ?, ?, ?)",
                (diff_id, source.repository, source.digest, source.size, time.time_ns()),
            )
            self._database.execute(
                "DELETE FROM layer_sources WHERE diff_id = ? AND seen_ns NOT IN "
                "(SELECT seen_ns FROM layer_sources WHERE diff_id = ? ORDER BY seen_ns DESC LIMIT ?)",
                (diff_id, diff_id, _KEPT),
            )

    def remove(self, diff_id: str, source: Source) -> None:
        """The repository does not have it any more."""
        self._database.execute(
            "DELETE FROM layer_sources WHERE diff_id = ? AND repository = ? AND digest = ?",
            (diff_id, source.repository, source.digest),
        )
