"""The containers there are: found by id, name or the beginning of an id, and kept in SQLite."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from coved.containers import names
from coved.containers.container import Container
from coved.containers.links import SCHEMA, Links
from coved.errors import Conflict, InvalidParameter, NotFound, StorageFull
from coved.store.database import Database

_SCHEMA = (
    "CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL) STRICT;",
    SCHEMA,
)
_ID = re.compile(r"[0-9a-f]{1,64}")


class Registry:
    """Every change is committed before it returns, and outlives the machine unless it is told otherwise."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.links = Links(database)
        self._unsaved: set[Container] = set()
        """Changed while the disk was full."""
        self.changed: Callable[[], None] = lambda: None
        """Told when a record has changed, or is gone."""
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, Container] = {}

    def load(self) -> None:
        self.database.migrate("containers", _SCHEMA)
        for row in self.database.query("SELECT id, name, record FROM containers"):
            self._remember(Container.from_record(row["id"], row["name"], row["record"]))
        self.links.load()

    def __iter__(self) -> Iterator[Container]:
        return iter([*self._by_id.values()])

    def __contains__(self, container: object) -> bool:
        return isinstance(container, Container) and self._by_id.get(container.id) is container

    def find(self, id: str) -> Container | None:
        return self._by_id.get(id)

    def get(self, reference: str) -> Container:
        """By id, name, a link's name or the beginning of an id. Raises NotFound, InvalidParameter: ambiguous."""
        reference = reference.removeprefix("/")
        found = self._by_id.get(reference) or self._by_name.get(reference)
        if found is None and "/" in reference:
            found = self._linked(reference)
        if found is not None:
            return found
        if _ID.fullmatch(reference):
            matching = [container for id, container in self._by_id.items() if id.startswith(reference)]
            if len(matching) == 1:
                return matching[0]
            if matching:
                raise InvalidParameter(f"multiple IDs found with provided prefix: {reference}")
        raise NotFound(f"No such container: {reference}")

    def _linked(self, reference: str) -> Container | None:
        name, _, alias = reference.partition("/")
        container = self._by_name.get(name)
        link = self.links.of(container.id).get(alias) if container is not None else None
        return self._by_id.get(link.target_id) if link is not None else None

    def names(self, container: Container) -> list[str]:
        """The container's name, and those that links give it."""
        linked = [f"/{self._by_id[id].name}/{alias}" for id, alias in self.links.to(container.id)]
        return sorted([f"/{container.name}", *linked])

    def choose_name(self, name: str) -> str:
        """``name`` checked, or a free one when it is empty. Raises InvalidParameter, Conflict."""
        name = name.removeprefix("/")
        if not name:
            return names.generate(self._by_name)
        names.validate(name)
        holder = self._by_name.get(name)
        if holder is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder.id}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        return name

    def add(self, container: Container) -> None:
        self.database.execute(
            "INSERT INTO containers VALUES (?, ?, ?)", (container.id, container.name, container.to_record())
        )
        self.database.after_commit(lambda: self._remember(container))
        self.database.after_commit(self._catch_up)

    def save(self, container: Container, *, lasting: bool = True) -> None:
        """Raises StorageFull; the record is then written with the next one that there is room for.

        ``lasting``: it outlives the machine when this returns, and not only the engine.
        """
        if container.id in self._by_id:
            self._unsaved.add(container)
            with self.database.transaction(lasting=lasting):
                self._write(container)
                self.database.after_commit(self._catch_up)
            self.changed()

    def _write(self, container: Container) -> None:
        self.database.execute("UPDATE containers SET record = ? WHERE id = ?", (container.to_record(), container.id))
        self.database.after_commit(lambda: self._unsaved.discard(container))

    def _catch_up(self) -> None:
        """There is room: write what there was none for."""
        with contextlib.suppress(StorageFull):
            for container in [*self._unsaved]:
                self._write(container)

    def rename(self, container: Container, name: str) -> None:
        with self.database.transaction():
            self.database.execute("UPDATE containers SET name = ? WHERE id = ?", (name, container.id))
            self.links.renamed(container.id, name)
        del self._by_name[container.name]
        container.name = name
        self._by_name[name] = container

    def remove(self, container: Container) -> None:
        self.database.execute("DELETE FROM containers WHERE id = ?", (container.id,))
        self.links.forget(container.id)
        self.database.after_commit(lambda: self._forget(container))

    def _forget(self, container: Container) -> None:
        self._unsaved.discard(container)
        self._by_id.pop(container.id, None)
        self._by_name.pop(container.name, None)
        self.changed()

    def _remember(self, container: Container) -> None:
        self._by_id[container.id] = container
        self._by_name[container.name] = container
