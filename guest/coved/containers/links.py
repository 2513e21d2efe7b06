"""Which container is linked to which, and under what name (Docker's legacy links): kept in SQLite and in memory.

A link gives its target a further name, ``container/alias``. What links mean for a container that runs is in
``coved.containers.linked``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from coved.store.database import Database

SCHEMA = """
    CREATE TABLE container_links (
        container_id TEXT NOT NULL,
        alias TEXT NOT NULL,
        target_id TEXT NOT NULL,
        target_name TEXT NOT NULL,
        PRIMARY KEY (container_id, alias)
    ) STRICT;
"""


@dataclass(frozen=True)
class Link:
    """``target_name`` is the target's last name when it is removed, and ``target_id`` is "" then."""

    target_id: str
    target_name: str


class Links:
    """Every change is committed before it returns, or with the transaction that it is made in."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._of: dict[str, dict[str, Link]] = {}
        self._to: dict[str, dict[tuple[str, str], None]] = {}

    def load(self) -> None:
        for row in self._database.query("SELECT * FROM container_links ORDER BY rowid"):
            self._remember(row["container_id"], row["alias"], Link(row["target_id"], row["target_name"]))

    def of(self, container_id: str) -> Mapping[str, Link]:
        """What a container is linked to, by alias."""
        return self._of.get(container_id, {})

    def to(self, target_id: str) -> list[tuple[str, str]]:
        """Ids of the containers that are linked to one, each with the alias that it has there."""
        return [*self._to.get(target_id, ())]

    def add(self, container_id: str, links: Mapping[str, Link]) -> None:
        for alias, link in links.items():
            self._database.execute(
                "INSERT INTO container_links VALUES (?, ?, ?, ?)",
                (container_id, alias, link.target_id, link.target_name),
            )
        self._database.after_commit(lambda: self._remember_all(container_id, links))

    def remove(self, container_id: str, alias: str) -> None:
        self._database.execute(
            "DELETE FROM container_links WHERE container_id = ? AND alias = ?", (container_id, alias)
        )
        self._database.after_commit(lambda: self._drop(container_id, alias))

    def renamed(self, target_id: str, name: str) -> None:
        """A container has a new name."""
        self._change(target_id, target_id, name)

    def forget(self, container_id: str) -> None:
        """A container is removed: its links go; those to it stay, and keep who has them from starting, as in dockerd."""
        for alias in [*self.of(container_id)]:
            self.remove(container_id, alias)
        self._database.after_commit(lambda: self._of.pop(container_id, None))
        self._change(container_id, "", None)

    def _change(self, target_id: str, new_id: str, name: str | None) -> None:
        followers = self._to.get(target_id)
        if not followers:
            return
        self._database.execute(
            "UPDATE container_links SET target_id = ?, target_name = coalesce(?, target_name) WHERE target_id = ?",
            (new_id, name, target_id),
        )
        self._database.after_commit(lambda: self._changed(target_id, new_id, name))

    def _changed(self, target_id: str, new_id: str, name: str | None) -> None:
        for container_id, alias in self._to[target_id]:
            link = self._of[container_id][alias]
            self._of[container_id][alias] = replace(link, target_id=new_id, target_name=name or link.target_name)
        if not new_id:
            del self._to[target_id]

    def _drop(self, container_id: str, alias: str) -> None:
        link = self._of[container_id].pop(alias)
        self._to.get(link.target_id, {}).pop((container_id, alias), None)

    def _remember_all(self, container_id: str, links: Mapping[str, Link]) -> None:
        for alias, link in links.items():
            self._remember(container_id, alias, link)

    def _remember(self, container_id: str, alias: str, link: Link) -> None:
        self._of.setdefault(container_id, {})[alias] = link
        if link.target_id:
            self._to.setdefault(link.target_id, {})[container_id, alias] = None
