"""Which images there are and what they are called: the database's tables, with all of it in memory for look-ups."""

import json
import time

from coved.errors import NotFound
from coved.images import reference
from coved.images.documents import DOCUMENT_LIMIT
from coved.images.layers import Layer
from coved.images.model import Image
from coved.store.blobs import BlobStore
from coved.store.database import Database
from coved.times import rfc3339

_SCHEMA = (
    """
    CREATE TABLE layers (diff_id TEXT PRIMARY KEY, size INTEGER NOT NULL) STRICT;
    CREATE TABLE images (id TEXT PRIMARY KEY, size INTEGER NOT NULL) STRICT;
    CREATE TABLE image_layers (
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        diff_id TEXT NOT NULL REFERENCES layers (diff_id),
        PRIMARY KEY (image_id, position)
    ) STRICT;
    CREATE TABLE image_names (
        name TEXT PRIMARY KEY,
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        tagged_ns INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE image_settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    """,
)


class Catalog:
    """Changes go to the database first and then to memory, so that memory never promises what the disk has not."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs
        database.migrate("images", _SCHEMA)
        # Of work that an engine was killed over, between a layer and its image.
        database.execute("DELETE FROM layers WHERE diff_id NOT IN (SELECT diff_id FROM image_layers)")
        self.layer_sizes: dict[str, int] = {
            row["diff_id"]: row["size"] for row in database.query("SELECT diff_id, size FROM layers")
        }
        self._images: dict[str, Image] = {}
        self._names: dict[str, str] = {}
        for row in database.query("SELECT name, image_id FROM image_names"):
            self._names[row["name"]] = row["image_id"]
        for row in database.query("SELECT id FROM images"):
            self._refresh(row["id"])

    # -- look-ups

    def all(self) -> list[Image]:
        return list(self._images.values())

    def has(self, image_id: str) -> bool:
        return image_id in self._images

    def by_id(self, image_id: str) -> Image:
        """By the whole id, which must be there."""
        return self._images[image_id]

    def find(self, text: str) -> Image:
        """By name, name and digest, id, or unambiguous beginning of an id; raises ``NotFound`` in Docker's words."""
        if text in self._images:
            return self._images[text]
        prefix = reference.id_prefix(text)
        if len(prefix) == 64:
            image = self._images.get(f"sha256:{prefix}")
            if image is None:
                raise NotFound(f"No such image: {text}")
            return image
        missing = text
        if not text.startswith("sha256:"):
            parsed = reference.parse(text).tagged()
            missing = parsed.familiar
            image_id = self._names.get(str(parsed))
            if image_id is not None:
                return self._images[image_id]
        if prefix:
            found = [image for image in self._images.values() if image.id.startswith(f"sha256:{prefix}")]
            if len(found) > 1:
                raise NotFound(f"image id {text} is ambiguous: {len(found)} images begin with it")
            if found:
                return found[0]
        raise NotFound(f"No such image: {missing}")

    def names(self, image_id: str) -> list[str]:
        """Canonical names of an image."""
        return sorted(name for name, target in self._names.items() if target == image_id)

    def named(self, name: str) -> str | None:
        """The id of the image that has this canonical name."""
        return self._names.get(name)

    def setting(self, key: str) -> str | None:
        row = self._database.query_one("SELECT value FROM image_settings WHERE key = ?", (key,))
        return None if row is None else str(row["value"])

    # -- changes

    def set_setting(self, key: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO image_settings VALUES (?, ?)", (key, value))

    def add_layer(self, layer: Layer) -> None:
        self._database.execute("INSERT OR IGNORE INTO layers VALUES (?, ?)", (layer.diff_id, layer.size))
        self.layer_sizes[layer.diff_id] = layer.size

    def add(self, image_id: str, diff_ids: list[str]) -> Image:
        """Records an image whose configuration is in the blob store and whose layers are known."""
        if image_id not in self._images:
            size = sum(self.layer_sizes[diff_id] for diff_id in diff_ids)
            with self._database.transaction():
                self._database.execute("INSERT INTO images VALUES (?, ?)", (image_id, size))
                for position, diff_id in enumerate(diff_ids):
                    self._database.execute("INSERT INTO image_layers VALUES (?, ?, ?)", (image_id, position, diff_id))
            self._refresh(image_id)
        return self._images[image_id]

    def set_name(self, name: str, image_id: str) -> None:
        """Gives a canonical name to an image, whoever had it before."""
        self._database.execute("INSERT OR REPLACE INTO image_names VALUES (?, ?, ?)", (name, image_id, time.time_ns()))
        previous = self._names.get(name)
        self._names[name] = image_id
        self._refresh(image_id)
        if previous is not None and previous != image_id:
            self._refresh(previous)

    def remove_name(self, name: str) -> None:
        self._database.execute("DELETE FROM image_names WHERE name = ?", (name,))
        self._refresh(self._names.pop(name))

    def remove(self, image_id: str) -> list[str]:
        """Removes an image and its names; gives the diff ids that no other image has, whose rows are gone as well."""
        image = self._images[image_id]
        with self._database.transaction():
            self._database.execute("DELETE FROM images WHERE id = ?", (image_id,))
            unused = [
                row["diff_id"]
                for row in self._database.query(
                    "SELECT diff_id FROM layers WHERE diff_id NOT IN (SELECT diff_id FROM image_layers)"
                )
                if row["diff_id"] in image.diff_ids
            ]
            for diff_id in unused:
                self._database.execute("DELETE FROM layers WHERE diff_id = ?", (diff_id,))
        for diff_id in unused:
            del self.layer_sizes[diff_id]
        del self._images[image_id]
        self._names = {name: target for name, target in self._names.items() if target != image_id}
        return unused

    def _refresh(self, image_id: str) -> None:
        """Makes the image in memory what the tables say; images are immutable, names come and go."""
        known = self._images.get(image_id)
        config = json.loads(self._blobs.get(image_id, DOCUMENT_LIMIT)) if known is None else known.config
        row = self._database.query_one("SELECT size FROM images WHERE id = ?", (image_id,))
        latest = self._database.query_one(
            "SELECT max(tagged_ns) AS ns FROM image_names WHERE image_id = ?", (image_id,)
        )
        assert row is not None and latest is not None
        parsed = [reference.parse(name) for name in self.names(image_id)]
        self._images[image_id] = Image(
            id=image_id,
            config=config,
            size=row["size"],
            diff_ids=tuple((config.get("rootfs") or {}).get("diff_ids") or ()),
            tags=tuple(name.familiar for name in parsed if not name.digest),
            digests=tuple(name.familiar for name in parsed if name.digest),
            tagged_at=rfc3339(latest["ns"]) if latest["ns"] else "",
        )
