"""Images for a registry: compressed, the same each time, and none of it again when it came so."""

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from coved.errors import NotFound
from coved.events import Events
from coved.images import Images, documents, packing
from coved.store.blobs import SealedBlob
from coved.store.database import Database

from image_archives import digest, docker_archive, oci_archive, tar

pytestmark = pytest.mark.root

LAYERS = [tar([("one", b"1" * 700_000)]), tar([("two", b"2")])]


async def load(images: Images, archive: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield archive

    await images.load(chunks(), lambda _: None, quiet=True)


def blobs(root: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (root / "blobs/sha256").iterdir()}


def test_plain_layers_are_compressed_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        images = Images(Database(tmp_path / "db"), Events(), tmp_path)
        try:
            await load(images, docker_archive(LAYERS, ["x"]))
            packed = await images.packed(images.get("x"))
            manifest = documents.manifest(packed.document)
            assert {layer.media_type for layer in manifest.layers} == {"application/vnd.oci.image.layer.v1.tar+gzip"}
            for layer, plain in zip(manifest.layers, LAYERS, strict=True):
                data = images.blob(layer.digest).read_bytes()
                assert (digest(data), len(data), gzip.decompress(data)) == (layer.digest, layer.size, plain)
            assert (await images.packed(images.get("x"))).digest == packed.digest
            assert images.manifest(images.get("x")).digest == packed.digest
            # The plain ones are of no more use.
            assert blobs(tmp_path) == {packed.image_id, packed.digest, *(layer.digest for layer in manifest.layers)}
            await images.remove("x")
            assert blobs(tmp_path) == set()
        finally:
            await images.close()

    asyncio.run(scenario())


def test_what_came_compressed_goes_as_it_came(tmp_path: Path) -> None:
    stored = [gzip.compress(one, 1) for one in LAYERS]

    async def scenario() -> None:
        images = Images(Database(tmp_path / "db"), Events(), tmp_path)
        try:
            await load(images, oci_archive(LAYERS, "docker.io/library/x:latest", stored=stored))
            before = blobs(tmp_path)
            packed = await images.packed(images.get("x"))
            assert [layer["digest"] for layer in json.loads(packed.document)["layers"]] == [*map(digest, stored)]
            assert blobs(tmp_path) == before
        finally:
            await images.close()

    asyncio.run(scenario())


def test_an_image_that_goes_while_it_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        images = Images(Database(tmp_path / "db"), Events(), tmp_path)
        try:
            await load(images, docker_archive(LAYERS, ["x"]))
            loop, real, first = asyncio.get_running_loop(), packing._Compression.run, threading.Lock()

            def run(self: packing._Compression) -> SealedBlob:
                sealed = real(self)
                if first.acquire(blocking=False):
                    asyncio.run_coroutine_threadsafe(images.remove("x"), loop).result(20)
                return sealed

            monkeypatch.setattr(packing._Compression, "run", run)
            with pytest.raises(NotFound):
                await images.packed(images.get("x"))
            assert blobs(tmp_path) == set()
        finally:
            await images.close()

    asyncio.run(scenario())


def test_pushes_at_the_same_time_pack_the_same(tmp_path: Path) -> None:
    """The first that is done removes the plain archives that the others have yet to open."""

    async def scenario() -> None:
        images = Images(Database(tmp_path / "db"), Events(), tmp_path)
        try:
            await load(images, docker_archive([tar([(str(n), bytes([n]) * 100_000)]) for n in range(6)], ["x"]))
            image = images.get("x")
            made = await asyncio.gather(*(images.packed(image) for _ in range(12)))
            (digest_,) = {one.digest for one in made}
            assert blobs(tmp_path) == {image.id, digest_, *made[0].blobs()}
        finally:
            await images.close()

    asyncio.run(scenario())


def test_what_another_push_has_packed_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        images = Images(Database(tmp_path / "db"), Events(), tmp_path)
        try:
            await load(images, docker_archive(LAYERS, ["x"]))
            loop, real, first = asyncio.get_running_loop(), packing._Compression.run, threading.Lock()

            def run(self: packing._Compression) -> SealedBlob:
                if first.acquire(blocking=False):  # the other is done before this one begins
                    other = asyncio.run_coroutine_threadsafe(images.packed(images.get("x")), loop)
                    other.result(20)
                return real(self)

            monkeypatch.setattr(packing._Compression, "run", run)
            packed = await images.packed(images.get("x"))
            assert blobs(tmp_path) == {packed.digest, *packed.blobs()}
        finally:
            await images.close()

    asyncio.run(scenario())
