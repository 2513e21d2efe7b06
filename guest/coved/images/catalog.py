"""Which images there are and what they are called: the database's tables, with all of it in memory for look-ups."""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from coved.errors import NotFound
from coved.images import platforms, reference
from coved.images.documents import DOCUMENT_LIMIT, Manifest, Platform
from coved.images.layers import Blob, Layer
from coved.images.model import Image
from coved.store.blobs import BlobStore, DamagedBlob
from coved.store.database import Database
from coved.times import rfc3339

log = logging.getLogger(__name__)

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
    # Layers' archives as they came, the manifests that name them, and several platforms under one name.
    """
    CREATE TABLE layer_blobs (
        digest TEXT PRIMARY KEY,
        diff_id TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
        size INTEGER NOT NULL,
        media_type TEXT NOT NULL
    ) STRICT;
    CREATE TABLE image_manifests (
        number INTEGER PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE,
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        layers TEXT NOT NULL
    ) STRICT;
    CREATE TABLE image_names_2 (
        name TEXT NOT NULL,
        position INTEGER NOT NULL,
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        tagged_ns INTEGER NOT NULL,
        index_digest TEXT NOT NULL,
        PRIMARY KEY (name, image_id)
    ) STRICT;
    INSERT INTO image_names_2 SELECT name, 0, image_id, tagged_ns, '' FROM image_names;
    DROP TABLE image_names;
    ALTER TABLE image_names_2 RENAME TO image_names;
    """,
    # What images made here were made of.
    """
    CREATE TABLE image_parents (
        image_id TEXT PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
        parent_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
    ) STRICT;
    """,
)


@dataclass(frozen=True)
class Gone:
    """What has no row any more, and is still on the disk: layers by diff id, and layers' blobs."""

    layers: list[str]
    blobs: list[Blob]


class Catalog:
    """Changes go to the database first and then to memory, so that memory never promises what the disk has not: several
    changes in one ``transaction`` are all of them in memory after it, and none of them before."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs
        database.migrate("images", _SCHEMA)
        self.layer_users: Callable[[], Collection[str]] = lambda: ()
        """Gives the diff ids of layers that are needed though no image may have them."""
        self.layer_sizes: dict[str, int] = {
            row["diff_id"]: row["size"] for row in database.query("SELECT diff_id, size FROM layers")
        }
        self._images: dict[str, Image] = {}
        self._names: dict[str, list[str]] = {}
        self._indexes: dict[str, str] = {}
        self._layer_blobs: dict[str, tuple[str, Blob]] = {}
        self._manifests: dict[str, dict[str, list[str]]] = {}
        """By image id and by its own digest: the layers' digests. The latest is last."""
        for row in database.query("SELECT * FROM image_names ORDER BY name, position"):
            self._names.setdefault(row["name"], []).append(row["image_id"])
            if row["index_digest"]:
                self._indexes[row["name"]] = row["index_digest"]
        for row in database.query("SELECT * FROM layer_blobs"):
            blob = Blob(row["digest"], row["size"], row["media_type"])
            self._layer_blobs[blob.digest] = (row["diff_id"], blob)
        for row in database.query("SELECT * FROM image_manifests ORDER BY number"):
            self._manifests.setdefault(row["image_id"], {})[row["digest"]] = json.loads(row["layers"])
        self._parents: dict[str, str] = {
            row["image_id"]: row["parent_id"] for row in database.query("SELECT * FROM image_parents")
        }
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

    def find(self, text: str, platform: Platform | None = None) -> Image:
        """By name, name and digest, id, or unambiguous beginning of an id; of several platforms the one that is asked for,
        else this machine's. Raises ``NotFound`` in Docker's words."""
        images = self._candidates(text)
        if platform is None:
            return min(images, key=platforms.foreignness)
        ranked = [(0 if one.damage else platforms.rank(one.platform, platform), one) for one in images]
        fitting = [(rank, one) for rank, one in ranked if rank is not None]
        if not fitting:
            raise platforms.mismatch(text, platform, images[0])
        return min(fitting, key=lambda pair: pair[0])[1]

    def name_of(self, text: str) -> str | None:
        """The canonical name that a text means, when it means an image by its name and not by its id."""
        if text in self._images or len(reference.id_prefix(text)) == 64 or text.startswith("sha256:"):
            return None
        name = str(reference.parse(text).tagged())
        return name if name in self._names else None

    def names_meant(self, text: str) -> list[str]:
        """Canonical names that a text means: of a repository all tags. [] for an id, and for what is not there."""
        name = self.name_of(text)
        parsed = None if text in self._images or text.startswith("sha256:") else reference.parse(text)
        if parsed is None or parsed.tag or parsed.digest:
            return [] if name is None else [name]
        return self.names_of_repository(parsed.repository)

    def _candidates(self, text: str) -> list[Image]:
        """At least one."""
        if text in self._images:
            return [self._images[text]]
        prefix = reference.id_prefix(text)
        if len(prefix) == 64:
            image = self._images.get(f"sha256:{prefix}")
            if image is None:
                raise NotFound(f"No such image: {text}")
            return [image]
        missing = text
        if not text.startswith("sha256:"):
            parsed = reference.parse(text).tagged()
            missing = parsed.familiar
            holders = self._names.get(str(parsed))
            if holders:
                return [self._images[image_id] for image_id in holders]
        if prefix:
            found = [image for image in self._images.values() if image.id.startswith(f"sha256:{prefix}")]
            if len(found) > 1:
                raise NotFound(f"image id {text} is ambiguous: {len(found)} images begin with it")
            if found:
                return found
        raise NotFound(f"No such image: {missing}")

    def names(self, image_id: str) -> list[str]:
        """Canonical names of an image."""
        return sorted(name for name, holders in self._names.items() if image_id in holders)

    def names_of_repository(self, repository: str) -> list[str]:
        """Canonical names, with tags, of a canonical repository."""
        return sorted(name for name in self._names if name.startswith(f"{repository}:"))

    def holders(self, name: str) -> list[str]:
        """The ids of the images, one for each platform, that have this canonical name; [] when there is none."""
        return [*self._names.get(name, ())]

    def index_of(self, name: str) -> str:
        """The digest of the index that a name's images came with, "" when there was none."""
        return self._indexes.get(name, "")

    def has_blob(self, digest: str, diff_id: str) -> bool:
        """Whether the archive is kept, and is that of this layer."""
        return digest in self._layer_blobs and self._layer_blobs[digest][0] == diff_id

    def media_type_of(self, digest: str) -> str:
        """Of an archive that is kept; "" for one that is not."""
        return self._layer_blobs[digest][1].media_type if digest in self._layer_blobs else ""

    def blobs(self, diff_id: str) -> list[Blob]:
        """A layer's archives: several, when it came compressed in several ways."""
        return [blob for of, blob in self._layer_blobs.values() if of == diff_id]

    def manifests(self, image_id: str) -> list[str]:
        """Digests of the manifests that an image came with, the latest first."""
        return [*reversed(self._manifests.get(image_id, ()))]

    def parent(self, image_id: str) -> str:
        """The id of the image that one was made of here, "" for one that came from elsewhere, or whose parent is gone."""
        return self._parents.get(image_id, "")

    def is_blob(self, digest: str) -> bool:
        """Whether a blob belongs to anything."""
        return (
            digest in self._images
            or digest in self._layer_blobs
            or digest in self._indexes.values()
            or any(digest in manifests for manifests in self._manifests.values())
        )

    def setting(self, key: str) -> str | None:
        row = self._database.query_one("SELECT value FROM image_settings WHERE key = ?", (key,))
        return None if row is None else str(row["value"])

    # -- changes

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """All of the changes in it or none: there must be no await inside."""
        return self._database.transaction()

    def set_setting(self, key: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO image_settings VALUES (?, ?)", (key, value))

    def add_layer(self, diff_id: str, layer: Layer | None, blobs: Sequence[Blob]) -> None:
        """Records archives of a layer, and the layer itself unless it is there."""
        with self._database.transaction():
            if layer is not None:
                self._database.execute("INSERT OR IGNORE INTO layers VALUES (?, ?)", (diff_id, layer.size))
            for blob in blobs:
                row = (blob.digest, diff_id, blob.size, blob.media_type)
                self._database.execute("INSERT INTO layer_blobs VALUES (?, ?, ?, ?)", row)
            self._database.after_commit(lambda: self._know_layer(diff_id, layer, blobs))

    def _know_layer(self, diff_id: str, layer: Layer | None, blobs: Sequence[Blob]) -> None:
        if layer is not None:
            self.layer_sizes[diff_id] = layer.size
        for blob in blobs:
            self._layer_blobs[blob.digest] = (diff_id, blob)

    def drop_layers(self, diff_ids: Collection[str] | None = None) -> Gone:
        """Takes the rows of layers that nobody needs; of all there are, or only of these."""
        gone = self._unneeded(self.layer_sizes if diff_ids is None else diff_ids)
        blobs = [blob for diff_id in gone for blob in self.blobs(diff_id)]
        with self._database.transaction():
            for diff_id in gone:
                self._database.execute("DELETE FROM layers WHERE diff_id = ?", (diff_id,))  # and those of its archives
            self._database.after_commit(lambda: self._forget(gone, blobs))
        return Gone(gone, blobs)

    def _unneeded(self, diff_ids: Collection[str]) -> list[str]:
        needed = {row["diff_id"] for row in self._database.query("SELECT DISTINCT diff_id FROM image_layers")}
        needed.update(self.layer_users())
        return [one for one in self.layer_sizes if one in diff_ids and one not in needed]

    def _forget(self, diff_ids: Sequence[str], blobs: Sequence[Blob]) -> None:
        for diff_id in diff_ids:
            del self.layer_sizes[diff_id]
        for blob in blobs:
            del self._layer_blobs[blob.digest]

    def add_manifest(self, image_id: str, digest: str, manifest: Manifest) -> None:
        """Records a manifest whose document is in the blob store and whose layers' archives are kept."""
        layers = [layer.digest for layer in manifest.layers]
        with self._database.transaction():
            self._database.execute(
                "INSERT OR IGNORE INTO image_manifests (digest, image_id, layers) VALUES (?, ?, ?)",
                (digest, image_id, json.dumps(layers)),
            )
            self._database.after_commit(lambda: self._manifests.setdefault(image_id, {}).setdefault(digest, layers))

    def add(self, image_id: str, diff_ids: Sequence[str]) -> None:
        """Records an image whose configuration is in the blob store and whose layers are recorded; one that is there already
        is as it was, but that its damage is repaired."""
        with self._database.transaction():
            if self._database.execute("INSERT OR IGNORE INTO images VALUES (?, 0)", (image_id,)):
                for position, diff_id in enumerate(diff_ids):
                    self._database.execute("INSERT INTO image_layers VALUES (?, ?, ?)", (image_id, position, diff_id))
                self._database.execute(
                    "UPDATE images SET size = (SELECT coalesce(sum(layers.size), 0) FROM image_layers "
                    "JOIN layers USING (diff_id) WHERE image_id = images.id) WHERE id = ?",
                    (image_id,),
                )
            self._database.after_commit(lambda: self._read_again(image_id))

    def _read_again(self, image_id: str) -> None:
        if image_id in self._images and self._images[image_id].damage:
            config, damage = self._config(image_id)
            self._images[image_id] = dataclasses.replace(self._images[image_id], config=config, damage=damage)
        self._refresh(image_id)

    def set_parent(self, image_id: str, parent_id: str) -> None:
        """Records what an image was made of; both are there."""
        self._database.execute("INSERT OR REPLACE INTO image_parents VALUES (?, ?)", (image_id, parent_id))
        self._parents[image_id] = parent_id

    def set_name(self, name: str, image_ids: Sequence[str], index: str = "") -> None:
        """Gives a canonical name to an image, or to one for each platform, whoever had it before.

        Args:
            index: the digest of the index that names them all, which is in the blob store.
        """
        now = time.time_ns()
        with self._database.transaction():
            self._database.execute("DELETE FROM image_names WHERE name = ?", (name,))
            for position, image_id in enumerate(image_ids):
                row = (name, position, image_id, now, index)
                self._database.execute("INSERT INTO image_names VALUES (?, ?, ?, ?, ?)", row)
            self._database.after_commit(lambda: self._know_name(name, image_ids, index))

    def _know_name(self, name: str, image_ids: Sequence[str], index: str) -> None:
        previous = self.holders(name)
        self._names[name] = [*image_ids]
        for image_id in {*image_ids, *previous}:
            self._refresh(image_id)
        self._set_index(name, index)

    def remove_name(self, name: str) -> None:
        self._database.execute("DELETE FROM image_names WHERE name = ?", (name,))
        holders = self._names.pop(name)
        self._set_index(name, "")
        for image_id in holders:
            self._refresh(image_id)

    def remove(self, image_id: str) -> Gone:
        """Removes an image, its names and its documents; gives what else nobody needs any more, whose rows are gone as well."""
        image = self._images[image_id]
        remaining = {id_: manifests for id_, manifests in self._manifests.items() if id_ != image_id}
        in_manifests = {one for manifests in remaining.values() for layers in manifests.values() for one in layers}
        with self._database.transaction():
            self._database.execute("DELETE FROM images WHERE id = ?", (image_id,))
            unused = self._unneeded(image.diff_ids)
            blobs = [blob for diff_id in unused for blob in self.blobs(diff_id)]
            blobs += [blob for one in {*image.diff_ids} - {*unused} for blob in self._spare(one, in_manifests)]
            for blob in blobs:
                self._database.execute("DELETE FROM layer_blobs WHERE digest = ?", (blob.digest,))
            for diff_id in unused:
                self._database.execute("DELETE FROM layers WHERE diff_id = ?", (diff_id,))
        self._forget(unused, blobs)
        del self._images[image_id]
        self._parents = {child: parent for child, parent in self._parents.items() if image_id not in (child, parent)}
        for name in self.names(image_id):
            self._names[name].remove(image_id)
            if not self._names[name]:
                del self._names[name]
                self._set_index(name, "")
        for digest in (image_id, *self._manifests.pop(image_id, ())):
            self._blobs.remove(digest)
        return Gone(unused, blobs)

    def drop_spare(self, diff_ids: Sequence[str]) -> list[Blob]:
        """Takes the rows of archives of these layers that no manifest names, but for one of each, and gives them."""
        named = {one for manifests in self._manifests.values() for layers in manifests.values() for one in layers}
        blobs = [blob for diff_id in {*diff_ids} for blob in self._spare(diff_id, named)]
        with self._database.transaction():
            for blob in blobs:
                self._database.execute("DELETE FROM layer_blobs WHERE digest = ?", (blob.digest,))
        for blob in blobs:
            del self._layer_blobs[blob.digest]
        return blobs

    def _spare(self, diff_id: str, named: set[str]) -> list[Blob]:
        """Images need one archive of each layer, and those that their manifests name."""
        blobs = sorted(self.blobs(diff_id), key=lambda blob: blob.digest in named)
        return [blob for blob in blobs[:-1] if blob.digest not in named]

    def _set_index(self, name: str, digest: str) -> None:
        previous = self._indexes.pop(name, "")
        if digest:
            self._indexes[name] = digest
        if previous and not self.is_blob(previous):
            self._blobs.remove(previous)

    def _refresh(self, image_id: str) -> None:
        """Makes the image in memory what the tables say; images are immutable, names come and go."""
        known = self._images.get(image_id)
        config, damage = self._config(image_id) if known is None else (known.config, known.damage)
        row = self._database.query_one("SELECT size FROM images WHERE id = ?", (image_id,))
        latest = self._database.query_one(
            "SELECT max(tagged_ns) AS ns FROM image_names WHERE image_id = ?", (image_id,)
        )
        layers = self._database.query(
            "SELECT diff_id FROM image_layers WHERE image_id = ? ORDER BY position", (image_id,)
        )
        assert row is not None and latest is not None
        parsed = [reference.parse(name) for name in self.names(image_id)]
        self._images[image_id] = Image(
            id=image_id,
            config=config,
            size=row["size"],
            diff_ids=tuple(layer["diff_id"] for layer in layers),
            tags=tuple(name.familiar for name in parsed if not name.digest),
            digests=tuple(name.familiar for name in parsed if name.digest),
            tagged_at=rfc3339(latest["ns"]) if latest["ns"] else "",
            damage=damage,
        )

    def _config(self, image_id: str) -> tuple[dict[str, Any], str]:
        """An image's configuration, or {} and why it cannot be read: one damaged image is no reason to do without the others."""
        try:
            return json.loads(self._blobs.get(image_id, DOCUMENT_LIMIT)), ""
        except (DamagedBlob, OSError) as error:
            log.error("image %s can only be removed: %s", image_id, error)
            return {}, (
                f"the configuration of image {image_id.removeprefix('sha256:')[:12]} cannot be read: {error}: remove the image, "
                "and load or pull it again"
            )
