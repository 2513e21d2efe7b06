"""Archives that are damaged anywhere are read or refused, and nothing is written but in the folder that was given."""

import io
import json
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from coved.errors import EngineError
from coved.images.documents import Platform
from coved.images.read_archive import Archive, ArchivedGroup
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "engine"))
from image_archives import digest, docker_archive, oci_archive, special, tar

LAYER = tar([("file", b"content")])
ARCHIVES = [docker_archive([LAYER], ["a/b:c"]), oci_archive([LAYER], "docker.io/a/b:c")]


def read(data: bytes, platform: Platform | None = None) -> list[ArchivedGroup]:
    with TemporaryDirectory() as folder:
        inside = Path(folder, "inside")
        inside.mkdir()
        archive = Archive(inside, lambda path, digest: None)
        try:
            archive.spool(io.BytesIO(data))
            return archive.images(platform)
        finally:
            assert [one.name for one in Path(folder).iterdir()] == ["inside"]
            assert all(one.name.isdigit() for one in inside.iterdir())


@pytest.mark.parametrize("data", ARCHIVES)
def test_both_layouts(data: bytes) -> None:
    (group,) = read(data)
    assert group.names == ["docker.io/a/b:c"]
    assert [layer.diff_id for layer in group.images[0].layers] == [digest(LAYER)]


def test_both_layouts_in_one_archive_are_one_image() -> None:
    files: dict[str, Any] = {}
    for data in ARCHIVES:
        with tarfile.open(fileobj=io.BytesIO(data)) as opened:
            for one in opened:
                files[one.name] = opened.extractfile(one).read()  # type: ignore[union-attr]
    files["manifest.json"] = json.dumps(
        [{**json.loads(files["manifest.json"])[0], "RepoTags": ["a/b:c", "a/b:d"]}]
    ).encode()
    (group,) = read(tar([*files.items()]))
    assert group.names == ["docker.io/a/b:c", "docker.io/a/b:d"] and group.index and group.images[0].manifest


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("manifest.json", special(tarfile.SYMTYPE, link="manifest.json"))], "lacks"),
        ([("a", special(tarfile.SYMTYPE, link="b")), ("b", special(tarfile.SYMTYPE, link="a")),
          ("index.json", special(tarfile.LNKTYPE, link="a"))], "lacks"),
        ([("index.json", b'{"schemaVersion": 2, "manifests": [{"digest": "sha256:%s"}]}' % (b"0" * 64))], "lacks"),
    ],
)  # fmt: skip
def test_names_that_lead_nowhere(members: Any, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        read(tar(members))


def test_an_index_that_names_itself_or_too_many() -> None:
    def nested(depth: int) -> tuple[list[tuple[str, bytes]], bytes]:
        blobs, inner = [], b'{"schemaVersion": 2, "manifests": []}'
        for _ in range(depth):
            blobs.append((f"blobs/sha256/{digest(inner)[7:]}", inner))
            pointer = {"digest": digest(inner), "size": len(inner)}
            inner = json.dumps({"schemaVersion": 2, "manifests": [pointer] * 9}).encode()
        return blobs, inner

    for depth, words in ((3, "names no image"), (7, "names no image"), (30, "nested too deeply")):
        blobs, top = nested(depth)
        with pytest.raises(EngineError, match=words):
            read(tar([*blobs, ("index.json", top)]))


def test_documents_are_held_once_and_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(fileobj=io.BytesIO(ARCHIVES[1])) as opened:
        files = {one.name: opened.extractfile(one).read() for one in opened}  # type: ignore[union-attr]
    top = json.loads(files["index.json"])
    files["index.json"] = json.dumps({**top, "manifests": top["manifests"] * 1000}).encode()
    monkeypatch.setattr("coved.images.read_archive.HELD_MAX", 700_000)
    (group,) = read(tar([*files.items()]))
    assert len(group.images) == 1
    monkeypatch.setattr("coved.images.read_archive.HELD_MAX", 1000)
    with pytest.raises(EngineError, match="names in the archive take more"):
        read(tar([*files.items()]))
    with pytest.raises(EngineError, match="names in the archive take more"):
        read(tar([(f"{number}" + "n" * 200, b"") for number in range(5)]))


def test_a_platform_s_processors_run_what_was_made_for_older_ones() -> None:
    older = docker_archive([LAYER], ["a"], architecture="arm", variant="v6")
    assert [one.platform.variant for one in read(older, Platform("linux", "arm", "v7"))[0].images] == ["v6"]
    with pytest.raises(EngineError, match="no image for the platform linux/arm/v5, but for linux/arm/v6"):
        read(older, Platform("linux", "arm", "v5"))


def test_an_archive_with_too_many_names() -> None:
    with pytest.raises(EngineError, match="RepoTags must be no more"):
        read(docker_archive([LAYER], [f"a:{number}" for number in range(1001)]))
    with tarfile.open(fileobj=io.BytesIO(ARCHIVES[0])) as opened:
        files = {one.name: opened.extractfile(one).read() for one in opened}  # type: ignore[union-attr]
    (item,) = json.loads(files["manifest.json"])
    items = [{**item, "RepoTags": [f"a:{number}-{tag}" for tag in range(600)]} for number in range(2)]
    files["manifest.json"] = json.dumps(items).encode()
    with pytest.raises(EngineError, match="1200 names"):
        read(tar([*files.items()]))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ARCHIVES), st.data())
def test_whatever_is_damaged_is_read_or_refused(data: bytes, drawn: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(drawn.draw(st.integers(1, 4))):
        damaged[drawn.draw(st.integers(0, len(data) - 1))] = drawn.draw(st.integers(0, 255))
    for text in (bytes(damaged), data[: drawn.draw(st.integers(0, len(data)))]):
        for platform in (None, Platform("linux", "amd64")):
            try:
                read(text, platform)
            except EngineError:
                continue
