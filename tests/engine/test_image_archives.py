"""Images that leave in archives and come back: the same digests, whatever they came in."""

import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import sqlite3
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import pytest

from image_archives import config, digest, docker_archive, oci_archive, special, tar
from life_support import ask, eventually

pytestmark = [pytest.mark.root, pytest.mark.native]

OCI = "application/vnd.oci.image"


@pytest.fixture
def repository(docker_client: Any) -> Iterator[str]:
    """A name of this test's own, with no tag; images of it go afterwards."""
    name = f"saved/{uuid.uuid4().hex[:12]}"
    yield name
    for tag in {tag for image in docker_client.images.list(name) for tag in image.tags}:
        docker_client.images.remove(tag, force=True)


def cli(engine: Any, *words: str, data: bytes = b"") -> bytes:
    result = subprocess.run(
        ["docker", *words], input=data, capture_output=True, timeout=60, env={**os.environ, "DOCKER_HOST": engine.url}
    )
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def refused(engine: Any, *words: str, data: bytes = b"") -> str:
    result = subprocess.run(
        ["docker", *words], input=data, capture_output=True, timeout=60, env={**os.environ, "DOCKER_HOST": engine.url}
    )
    assert result.returncode != 0
    return (result.stderr + result.stdout).decode()


def layer(content: str) -> bytes:
    return tar([("etc", special(tarfile.DIRTYPE)), ("etc/motd", content.encode())])


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {one.name: opened.extractfile(one).read() for one in opened if one.isreg()}  # type: ignore[union-attr]


def top(archive: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(members(archive)["index.json"])["manifests"]
    return found


def verify(archive: bytes) -> None:
    """Each blob is what its name says, and both layouts name only what is there."""
    files = members(archive)
    for name, data in files.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]
    for item in json.loads(files["manifest.json"]):
        assert {item["Config"], *item["Layers"]} <= {*files}
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


def two_platforms(tag: str, *, leave_out: str = "") -> tuple[bytes, bytes]:
    """An OCI layout with an image for amd64 and one for arm64, and its index."""
    blobs: list[bytes] = []
    manifests = []
    for machine in ("amd64", "arm64"):
        content = gzip.compress(layer(machine + tag), mtime=0)
        document = config([layer(machine + tag)], architecture=machine)
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "config": {"mediaType": f"{OCI}.config.v1+json", "digest": digest(document), "size": len(document)},
                "layers": [{"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": digest(content), "size": len(content)}],
            }
        ).encode()
        if machine != leave_out:
            blobs += [content, document, manifest]
        manifests.append(
            {
                "mediaType": f"{OCI}.manifest.v1+json",
                "digest": digest(manifest),
                "size": len(manifest),
                "platform": {"os": "linux", "architecture": machine},
            }
        )
    attestation = {**manifests[0], "digest": digest(b"none"), "platform": {"os": "unknown", "architecture": "unknown"}}
    index = json.dumps({"schemaVersion": 2, "manifests": [*manifests, attestation]}).encode()
    pointer = {
        "mediaType": f"{OCI}.index.v1+json",
        "digest": digest(index),
        "size": len(index),
        "annotations": {"io.containerd.image.name": f"docker.io/{tag}"},
    }
    outer = json.dumps({"schemaVersion": 2, "manifests": [pointer]}).encode()
    files = [(f"blobs/sha256/{digest(blob)[7:]}", blob) for blob in (*blobs, index)]
    return tar([("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'), *files, ("index.json", outer)]), index


def test_what_was_saved_is_loaded_the_same(engine: Any, docker_client: Any, repository: str) -> None:
    layers = [layer(repository), layer("two" + repository)]
    cli(engine, "load", data=docker_archive(layers, [f"{repository}:a", f"{repository}:b"]))
    image = docker_client.images.get(f"{repository}:a")
    saved = cli(engine, "save", f"{repository}:a", f"{repository}:b")
    verify(saved)
    (item,) = json.loads(members(saved)["manifest.json"])
    assert item["RepoTags"] == [f"{repository}:a", f"{repository}:b"]
    assert json.loads(members(saved)["repositories"])[repository].keys() == {"a", "b"}
    docker_client.images.remove(image.id, force=True)
    out = cli(engine, "load", data=gzip.compress(saved)).decode()
    assert out == f"Loaded image: {repository}:a\nLoaded image: {repository}:b\n"
    assert docker_client.images.get(f"{repository}:b").id == image.id
    assert cli(engine, "save", f"{repository}:a", f"{repository}:b") == saved


def test_compressed_layers_leave_as_they_came(engine: Any, docker_client: Any, repository: str) -> None:
    content = layer(repository)
    # Not what any program here would make of it: it cannot be made anew.
    stored = gzip.compress(content[:700], 1) + gzip.compress(content[700:], 9)
    archive = oci_archive([content], f"{repository}:x", stored=[stored])
    cli(engine, "load", data=archive)
    saved = cli(engine, "save", f"{repository}:x")
    verify(saved)
    assert members(saved)[f"blobs/sha256/{digest(stored)[7:]}"] == stored
    # The manifest's own bytes as well, and the index that it came with.
    assert {*members(archive)} - {*members(saved)} == set()
    assert top(saved)[0]["digest"] == top(archive)[0]["digest"]


def test_what_is_made_here_can_be_saved(engine: Any, docker_client: Any, repository: str) -> None:
    container = docker_client.containers.run("busybox", "sh -c 'echo made >/made'", detach=True)
    container.wait()
    image = container.commit(repository, "new")
    container.remove()
    saved = cli(engine, "save", f"{repository}:new")
    verify(saved)
    assert len(json.loads(members(saved)["manifest.json"])[0]["Layers"]) == 2
    docker_client.images.remove(f"{repository}:new")
    cli(engine, "load", data=saved)
    assert docker_client.images.get(f"{repository}:new").id == image.id
    assert docker_client.containers.run(f"{repository}:new", "cat /made", remove=True) == b"made\n"


def test_a_repository_stands_for_its_tags_and_an_id_for_none(engine: Any, docker_client: Any, repository: str) -> None:
    for tag in ("one", "two"):
        cli(engine, "load", data=docker_archive([layer(repository), layer(tag + repository)], [f"{repository}:{tag}"]))
    saved = cli(engine, "save", repository)
    assert sorted(one["annotations"]["org.opencontainers.image.ref.name"] for one in top(saved)) == ["one", "two"]
    assert len([name for name in members(saved) if name.startswith("blobs/")]) == 3 + 2 * 2
    image = docker_client.images.get(f"{repository}:one")
    by_id = cli(engine, "save", image.id[7:20])
    assert json.loads(members(by_id)["manifest.json"])[0]["RepoTags"] is None
    assert "repositories" not in members(by_id) and "annotations" not in top(by_id)[0]
    assert "No such image" in refused(engine, "save", f"{repository}:three")


def test_platforms_lie_side_by_side(engine: Any, docker_client: Any, repository: str) -> None:
    archive, index = two_platforms(f"{repository}:all")
    cli(engine, "load", data=archive)
    ids = {}
    for machine in ("amd64", "arm64"):
        wanted = json.dumps({"os": "linux", "architecture": machine})
        found = ask(engine, "GET", f"/images/{repository}:all/json?platform={quote(wanted)}")[1]
        assert found["Architecture"] == machine
        ids[machine] = found["Id"]
    assert len({*ids.values()}) == 2
    assert (
        docker_client.images.get(f"{repository}:all").id == ids["amd64" if os.uname().machine == "x86_64" else "arm64"]
    )
    whole = cli(engine, "save", f"{repository}:all")
    verify(whole)
    assert members(whole)[f"blobs/sha256/{digest(index)[7:]}"] == index
    only = cli(engine, "save", "--platform", "linux/arm64", f"{repository}:all")
    verify(only)
    assert [item["Config"][13:] for item in json.loads(members(only)["manifest.json"])] == [ids["arm64"][7:]]
    assert (
        f"reference {repository}:all was found but does not match the specified platform: wanted linux/s390x"
        in refused(engine, "save", "--platform", "linux/s390x", f"{repository}:all")
    )
    docker_client.api.tag(f"{repository}:all", repository, "again")
    docker_client.images.remove(f"{repository}:all")
    assert {image.id for image in docker_client.images.list(repository)} == {*ids.values()}
    docker_client.images.remove(f"{repository}:again")
    assert not docker_client.images.list(repository)
    for one in ids.values():
        with pytest.raises(docker.errors.ImageNotFound):
            docker_client.images.get(one)


def test_one_platform_of_several_is_loaded(engine: Any, docker_client: Any, repository: str) -> None:
    archive, _ = two_platforms(f"{repository}:one")
    cli(engine, "load", "--platform", "linux/arm64", data=archive)
    (image,) = docker_client.images.list(repository)
    assert image.attrs["Architecture"] == "arm64"
    assert "no image for the platform linux/s390x" in refused(engine, "load", "--platform", "linux/s390x", data=archive)
    # The other platform joins it, since both are of the same index.
    cli(engine, "load", "--platform", "linux/amd64", data=archive)
    assert sorted(one.attrs["Architecture"] for one in docker_client.images.list(repository)) == ["amd64", "arm64"]


def test_what_an_index_names_need_not_be_there(engine: Any, docker_client: Any, repository: str) -> None:
    archive, index = two_platforms(f"{repository}:part", leave_out="amd64")
    cli(engine, "load", data=archive)
    (image,) = docker_client.images.list(repository)
    assert image.attrs["Architecture"] == "arm64"
    saved = cli(engine, "save", f"{repository}:part")
    verify(saved)
    assert top(saved)[0]["digest"] == digest(index)


def test_a_manifest_that_lies_is_refused(engine: Any, docker_client: Any, repository: str) -> None:
    """The archive of another layer, by a digest that is right."""
    content, other = layer(repository), layer("other" + repository)
    cli(engine, "load", data=docker_archive([content], [f"{repository}:good"]))
    lie = oci_archive([content], f"{repository}:bad", stored=[gzip.compress(other)])
    assert "layer verification failed" in refused(engine, "load", data=lie)
    assert [image.tags for image in docker_client.images.list(repository)] == [[f"{repository}:good"]]


def test_blobs_go_with_their_last_image(engine: Any, docker_client: Any, repository: str) -> None:
    def blobs() -> set[str]:
        return {*engine.sh(f"ls {engine.root}/blobs/sha256").split()}

    before = blobs()
    content = layer(repository)
    cli(engine, "load", data=docker_archive([content], [f"{repository}:plain"]))
    packed = gzip.compress(content)
    other = config([content], author="other")
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": {"mediaType": f"{OCI}.config.v1+json", "digest": digest(other), "size": len(other)},
            "layers": [{"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": digest(packed), "size": len(packed)}],
        }
    ).encode()
    pointer = {
        "mediaType": f"{OCI}.manifest.v1+json", "digest": digest(manifest), "size": len(manifest),
        "annotations": {"io.containerd.image.name": f"docker.io/{repository}:packed"},
    }  # fmt: skip
    outer = json.dumps({"schemaVersion": 2, "manifests": [pointer]}).encode()
    cli(
        engine,
        "load",
        data=tar(
            [*((f"blobs/sha256/{digest(one)[7:]}", one) for one in (packed, other, manifest)), ("index.json", outer)]
        ),
    )
    assert {digest(content)[7:], digest(packed)[7:]} <= blobs()
    docker_client.images.remove(f"{repository}:plain")
    assert digest(content)[7:] not in blobs() and digest(packed)[7:] in blobs()
    assert digest(packed) in json.dumps(
        json.loads(members(cli(engine, "save", f"{repository}:packed"))["manifest.json"])
    )
    docker_client.images.remove(f"{repository}:packed")
    assert blobs() == before


def test_a_damaged_blob_does_not_leave_as_an_archive(engine: Any, docker_client: Any, repository: str) -> None:
    content = layer(repository)
    cli(engine, "load", data=docker_archive([content], [f"{repository}:x"]))
    engine.sh(f"printf x | dd of={engine.root}/blobs/sha256/{digest(content)[7:]} bs=1 seek=900 conv=notrunc 2>&1")
    with pytest.raises(Exception, match="ended prematurely"):
        b"".join(docker_client.api.get_image(f"{repository}:x"))
    eventually(lambda: engine.names(engine.root / "tmp") == [])  # it tidies up after the last byte


def test_an_image_that_goes_while_it_is_saved_is_saved(engine: Any, docker_client: Any, repository: str) -> None:
    content = tar([("big", os.urandom(6 << 20))])
    cli(engine, "load", data=docker_archive([content], [f"{repository}:x"]))
    stream = docker_client.api.get_image(f"{repository}:x", chunk_size=1 << 16)
    saved = next(stream)
    docker_client.images.remove(f"{repository}:x")
    saved += b"".join(stream)
    verify(saved)
    eventually(lambda: engine.names(engine.root / "tmp") == [])  # it tidies up after the last byte


def test_a_client_that_leaves_during_a_save_leaves_nothing(engine: Any, docker_client: Any, repository: str) -> None:
    content = tar([("big", os.urandom(30 << 20))])
    cli(engine, "load", data=docker_archive([content], [f"{repository}:x"]))
    stream = docker_client.api.get_image(f"{repository}:x", chunk_size=1 << 16)
    next(stream)
    assert engine.sh(f"ls -A {engine.root}/tmp").split()
    stream.close()
    docker_client.close()
    eventually(lambda: engine.names(engine.root / "tmp") == [])


def test_a_layer_that_is_there_twice(engine: Any, docker_client: Any, repository: str, make: Any) -> None:
    """As the empty layer is in many images; overlayfs takes no directory twice."""
    busybox = docker_client.images.get("busybox")
    base = json.loads(members(cli(engine, "save", "busybox"))["manifest.json"])[0]
    root = members(cli(engine, "save", "busybox"))[base["Layers"][0]]
    assert digest(root) == busybox.attrs["RootFS"]["Layers"][0]
    empty, change = tar([]), tar([("a", b"change")])
    original = tar([("a", b"original")])
    cli(engine, "load", data=docker_archive([root, empty, original, change, empty, original], [f"{repository}:x"]))
    assert docker_client.containers.run(f"{repository}:x", "cat /a", remove=True) == b"original"


def test_loading_and_saving_take_little_memory(native_engine: Any, tmp_path: Path) -> None:
    """300 MB of an image: what the engine takes must not grow with it."""
    client = docker.DockerClient(base_url=native_engine.url, timeout=120)
    layers = [tar([("big", os.urandom(100 << 20))]) for _ in range(3)]
    (tmp_path / "archive").write_bytes(docker_archive(layers, ["big:one"]))
    del layers
    with (tmp_path / "archive").open("rb") as file:
        client.images.load(file)
    size = 0
    for piece in client.api.get_image("big:one", chunk_size=1 << 20):
        size += len(piece)
    assert size > 300 << 20
    client.images.remove("big:one")
    client.close()
    peak = int(native_engine.sh(f"awk '/^VmHWM/ {{print $2}}' /proc/{native_engine.pid}/status"))
    assert peak < 150 << 10, f"{peak} KiB"


def test_platforms_are_told_of_in_one_image(engine: Any, docker_client: Any, repository: str) -> None:
    archive, _ = two_platforms(f"{repository}:all")
    cli(engine, "load", data=archive)
    tree = cli(engine, "image", "ls", "--tree", f"{repository}:all").decode()
    assert "linux/amd64" in tree and "linux/arm64" in tree
    (listed,) = [
        image
        for image in ask(engine, "GET", "/images/json?manifests=1")[1]
        if image["RepoTags"] == [f"{repository}:all"]
    ]
    both = listed["Manifests"]
    told = ask(engine, "GET", f"/images/{repository}:all/json?manifests=1")[1]
    assert told["Manifests"] == both
    assert {one["ImageData"]["Platform"]["architecture"] for one in both} == {"amd64", "arm64"}
    assert {one["ID"] for one in both} == {one["Descriptor"]["digest"] for one in both}
    assert all(one["Size"]["Total"] > one["Size"]["Content"] > 0 for one in both)
    assert all(one["Size"]["Total"] == one["Size"]["Content"] + one["ImageData"]["Size"]["Unpacked"] for one in both)
    assert listed["Size"] == sum(one["Size"]["Total"] for one in both)
    mine = both[0]["ImageData"]["Platform"]["architecture"]
    assert mine == told["Architecture"]


def test_a_container_is_of_the_platform_that_was_asked_for(engine: Any, docker_client: Any, repository: str) -> None:
    archive, _ = two_platforms(f"{repository}:all")
    cli(engine, "load", data=archive)
    ids = set()
    for machine in ("amd64", "arm64"):
        container = docker_client.containers.create(f"{repository}:all", "sh", platform=f"linux/{machine}")
        ids.add(container.attrs["Image"])
        assert docker_client.images.get(container.attrs["Image"]).attrs["Architecture"] == machine
        container.remove()
    assert len(ids) == 2
    with pytest.raises(docker.errors.NotFound, match="does not match the specified platform: wanted linux/s390x"):
        docker_client.api.create_container(f"{repository}:all", "sh", platform="linux/s390x")


def test_old_layers_without_an_archive_say_so(engine_with: Any) -> None:
    """As an earlier version of the engine has left them."""
    with engine_with() as engine:
        engine.kill()
        with contextlib.closing(sqlite3.connect(engine.root / "metadata.db")) as database:
            database.execute("DELETE FROM layer_blobs")
            database.commit()
        engine.start()
        assert "kept no archive of it" in refused(engine, "save", "busybox")
        assert cli(engine, "run", "--rm", "busybox", "echo", "ran") == b"ran\n"
        assert "busybox" in cli(engine, "image", "ls", "--tree").decode()


def test_one_platform_of_a_name_is_removed(engine: Any, docker_client: Any, repository: str) -> None:
    archive, _ = two_platforms(f"{repository}:all")
    cli(engine, "load", data=archive)
    out = cli(engine, "rmi", "--platform", "linux/arm64", f"{repository}:all").decode()
    assert out.startswith("Deleted: sha256:")
    (image,) = docker_client.images.list(repository)
    assert image.attrs["Architecture"] == "amd64"
    assert "does not match the specified platform" in refused(
        engine, "rmi", "--platform", "linux/arm64", f"{repository}:all"
    )
    cli(engine, "rmi", "--platform", "linux/amd64", f"{repository}:all")
    assert not docker_client.images.list(repository)


@pytest.mark.parametrize("compress", [lzma.compress, bz2.compress, bytes])
@pytest.mark.parametrize("known", [False, True])
def test_layers_that_oci_has_no_name_for_are_kept_plain(
    engine: Any, docker_client: Any, repository: str, compress: Any, known: bool
) -> None:
    content = layer(repository)
    document = config([content], author=repository)
    if known:
        cli(engine, "load", data=docker_archive([content], [f"{repository}:known"]))
    manifest = json.dumps([{"Config": "c", "RepoTags": [f"{repository}:x"], "Layers": ["l"]}]).encode()
    cli(engine, "load", data=tar([("c", document), ("l", compress(content)), ("manifest.json", manifest)]))
    saved = cli(engine, "save", f"{repository}:x")
    verify(saved)
    assert members(saved)[f"blobs/sha256/{digest(content)[7:]}"] == content


@pytest.mark.parametrize("compress", [lzma.compress, bz2.compress])
@pytest.mark.parametrize("known", [False, True])
def test_a_manifest_of_layers_that_oci_has_no_name_for_is_not_kept(
    engine: Any, docker_client: Any, repository: str, compress: Any, known: bool
) -> None:
    content = layer(repository)
    if known:
        cli(engine, "load", data=docker_archive([content], [f"{repository}:known"]))
    archive = oci_archive([content], f"docker.io/{repository}:x", stored=[compress(content)])
    cli(engine, "load", data=archive)
    saved = cli(engine, "save", f"{repository}:x")
    verify(saved)
    assert members(saved)[f"blobs/sha256/{digest(content)[7:]}"] == content
    image_id = docker_client.images.get(f"{repository}:x").id
    docker_client.images.remove(f"{repository}:x")
    cli(engine, "load", data=saved)
    assert docker_client.images.get(f"{repository}:x").id == image_id


def test_layers_of_an_earlier_version_are_complete_once_loaded_again(engine_with: Any, repository: str) -> None:
    archive = docker_archive([layer(repository)], [f"{repository}:x"])
    with engine_with() as engine:
        cli(engine, "load", data=archive)
        saved = cli(engine, "save", f"{repository}:x")
        engine.kill()
        with contextlib.closing(sqlite3.connect(engine.root / "metadata.db")) as database:
            database.execute("DELETE FROM layer_blobs")
            database.commit()
        engine.start()
        cli(engine, "load", data=archive)
        assert cli(engine, "save", f"{repository}:x") == saved


def test_saves_are_events(engine: Any, docker_client: Any, repository: str) -> None:
    cli(engine, "load", data=docker_archive([layer(repository)], [f"{repository}:x"]))
    since = engine.now()
    cli(engine, "save", f"{repository}:x")
    events = docker_client.events(since=since, until=engine.now() + 0.001, decode=True, filters={"type": "image"})
    assert [event["Action"] for event in events] == ["save"]


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_configuration_that_cannot_be_read_is_one_image_s_trouble(
    engine_with: Any, repository: str, damage: str
) -> None:
    archive = docker_archive([layer(repository)], [f"{repository}:x"])
    with engine_with() as engine:
        cli(engine, "load", data=archive)
        cli(engine, "create", "--name", "kept", f"{repository}:x", "/x")
        image_id = cli(engine, "image", "inspect", "-f", "{{.Id}}", f"{repository}:x").decode().strip()
        engine.kill()
        blob = engine.root / "blobs/sha256" / image_id[7:]
        blob.unlink()
        if damage == "damaged":
            blob.write_bytes(b'{"rootfs": {}}')
        engine.start()
        assert f"image {image_id} can only be removed: blob {image_id}" in engine.log()
        assert image_id[7:19] in cli(engine, "images", "--format", "{{.ID}}").decode()
        words = f"the configuration of image {image_id[7:19]} cannot be read"
        shown = json.loads(cli(engine, "image", "inspect", f"{repository}:x"))[0]
        assert shown["Comment"].startswith(words) and shown["RootFS"]["Layers"] == [digest(layer(repository))]
        for command in (["run"], ["run", "--platform", "linux/amd64"], ["history"], ["save"]):
            assert words in refused(engine, *command, f"{repository}:x")
        cli(engine, "cp", "kept:/etc/motd", "-")  # its layers are there as before
        cli(engine, "rm", "kept")
        # What it lacks may come again, by itself and in place of it.
        cli(engine, "load", data=archive)
        assert not json.loads(cli(engine, "image", "inspect", f"{repository}:x"))[0]["Comment"]
        blob.unlink()
        engine.kill()
        engine.start()
        assert f"Deleted: {image_id}" in cli(engine, "rmi", f"{repository}:x").decode()
        assert not blob.exists()
        cli(engine, "load", data=archive)
        blob.unlink()
        engine.kill()
        engine.start()
        assert f"deleted: {image_id}" in cli(engine, "image", "prune", "-af").decode()
