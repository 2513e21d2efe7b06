"""What the tables say, also those of an earlier version."""

import json
from pathlib import Path
from typing import Any

import pytest
from coved.errors import NotFound
from coved.images import catalog
from coved.images.catalog import Catalog
from coved.images.documents import Platform
from coved.images.layers import Blob, Layer
from coved.images.platforms import architecture
from coved.store.blobs import BlobStore
from coved.store.database import Database

NAME = "docker.io/library/x:latest"
LAYER = "sha256:" + "1" * 64


def config(machine: str) -> bytes:
    return json.dumps({"os": "linux", "architecture": machine, "rootfs": {"diff_ids": [LAYER]}}).encode()


def opened(folder: Path) -> Catalog:
    return Catalog(Database(folder / "db"), BlobStore(folder))


def filled(folder: Path, *machines: str) -> tuple[Catalog, list[str]]:
    made = opened(folder)
    made.add_layer(LAYER, Layer(LAYER, 7), [Blob("sha256:" + "2" * 64, 5, "plain")])
    ids = [BlobStore(folder).put(config(machine)) for machine in machines]
    for one in ids:
        made.add(one, [LAYER])
    return made, ids


def test_tables_of_the_first_version_are_taken_over(tmp_path: Path) -> None:
    database, blobs = Database(tmp_path / "db"), BlobStore(tmp_path)
    database.migrate("images", catalog._SCHEMA[:1])
    image_id = blobs.put(config("amd64"))
    for sql, row in (
        ("INSERT INTO layers VALUES (?, ?)", (LAYER, 7)),
        ("INSERT INTO images VALUES (?, ?)", (image_id, 7)),
        ("INSERT INTO image_layers VALUES (?, 0, ?)", (image_id, LAYER)),
        ("INSERT INTO image_names VALUES (?, ?, 1700000000000000000)", (NAME, image_id)),
    ):
        database.execute(sql, row)
    database.close()
    found = opened(tmp_path).find("x")
    assert (found.id, found.tags, found.size) == (image_id, ("x:latest",), 7)
    assert found.tagged_at.startswith("2023-11-14")
    assert opened(tmp_path).blobs(LAYER) == []


def test_platforms_under_one_name_survive_a_restart(tmp_path: Path) -> None:
    other = "s390x" if architecture() != "s390x" else "amd64"
    made, (foreign, own) = filled(tmp_path, other, architecture())
    made.set_name(NAME, [foreign, own], "sha256:" + "3" * 64)
    for one in (made, opened(tmp_path)):
        assert one.find("x").id == own
        assert one.find("x", Platform("linux", other)).id == foreign
        assert one.holders(NAME) == [foreign, own] and one.index_of(NAME) == "sha256:" + "3" * 64
        with pytest.raises(NotFound, match="wanted linux/mips"):
            one.find("x", Platform("linux", "mips"))


def test_a_layers_archives_are_kept_as_long_as_one_is_needed(tmp_path: Path) -> None:
    made, (first, second) = filled(tmp_path, "amd64", "arm64")
    packed, loose = Blob("sha256:" + "4" * 64, 5, "gzip"), Blob("sha256:" + "5" * 64, 5, "zstd")
    made.add_layer(LAYER, None, [packed, loose])

    class OneLayer:
        layers = (packed,)

    stand_in: Any = OneLayer()
    made.add_manifest(second, "sha256:" + "6" * 64, stand_in)
    for one in (made, opened(tmp_path)):
        assert {blob.digest[7] for blob in one.blobs(LAYER)} == {"2", "4", "5"}
    gone = made.remove(first)
    assert gone.layers == [] and {blob.digest[7] for blob in gone.blobs} == {"2", "5"}
    gone = opened(tmp_path).remove(second)
    assert gone.layers == [LAYER] and gone.blobs == [packed]
    assert opened(tmp_path).blobs(LAYER) == []
