"""Archives both ways with skopeo, in the layouts that it has: what we wrote it reads, and the reverse, with the same digests."""

import gzip
import json
import os
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_archives import config, digest, docker_archive, special, tar
from test_image_archives import two_platforms

pytestmark = [pytest.mark.root, pytest.mark.native]


@pytest.fixture
def tag(docker_client: Any) -> Iterator[str]:
    name = f"skopeo/{uuid.uuid4().hex[:12]}"
    yield f"{name}:latest"
    for one in {one for image in docker_client.images.list(name) for one in image.tags}:
        docker_client.images.remove(one, force=True)


def skopeo(*words: str) -> str:
    result = subprocess.run(
        ["skopeo", "--insecure-policy", "--override-os", "linux", *words], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def docker(engine: Any, *words: str, data: bytes = b"") -> bytes:
    result = subprocess.run(
        ["docker", *words], input=data, capture_output=True, timeout=60, env={**os.environ, "DOCKER_HOST": engine.url}
    )
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def layers(tag: str) -> list[bytes]:
    return [
        tar([("etc", special(tarfile.DIRTYPE)), ("etc/motd", tag.encode())]),
        tar([("etc/.wh.motd", b""), ("link", special(tarfile.SYMTYPE, link="/etc"))]),
    ]


@pytest.fixture
def saved(engine: Any, docker_client: Any, tag: str, tmp_path: Path) -> Path:
    """An archive that we wrote, of an image that came plain."""
    docker(engine, "load", data=docker_archive(layers(tag), [tag]))
    docker(engine, "save", "-o", str(tmp_path / "saved.tar"), tag)
    return tmp_path / "saved.tar"


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_we_write(docker_client: Any, tag: str, saved: Path, tmp_path: Path, kind: str) -> None:
    image = docker_client.images.get(tag)
    copy = tmp_path / "copy"
    skopeo("copy", f"{kind}:{saved}", f"dir:{copy}")
    manifest = json.loads((copy / "manifest.json").read_text())
    assert manifest["config"]["digest"] == image.id
    diff_ids = json.loads((copy / image.id[7:]).read_text())["rootfs"]["diff_ids"]
    assert diff_ids == image.attrs["RootFS"]["Layers"]
    if kind == "oci-archive":
        assert [layer["digest"] for layer in manifest["layers"]] == diff_ids  # they came plain, and go plain


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_we_read_what_skopeo_writes(
    engine: Any, docker_client: Any, tag: str, saved: Path, tmp_path: Path, kind: str
) -> None:
    image = docker_client.images.get(tag)
    written = tmp_path / "written.tar"
    name = f"docker.io/{tag}" if kind == "docker-archive" else tag
    skopeo("copy", f"docker-archive:{saved}", f"{kind}:{written}:{name}")
    docker_client.images.remove(tag)
    with written.open("rb") as file:
        (loaded,) = docker_client.images.load(file)
    assert loaded.tags == [tag]
    assert loaded.attrs["RootFS"]["Layers"] == image.attrs["RootFS"]["Layers"]
    if kind == "docker-archive":
        assert loaded.id == image.id  # to an OCI archive skopeo converts the configuration as well


@pytest.mark.parametrize("format", ["gzip", "zstd"])
def test_compressed_layers_keep_their_digests(
    engine: Any, docker_client: Any, tag: str, saved: Path, tmp_path: Path, format: str
) -> None:
    packed, layout = tmp_path / "packed.tar", tmp_path / "layout"
    skopeo("copy", "--dest-compress", "--dest-compress-format", format, f"oci-archive:{saved}", f"dir:{layout}")
    skopeo("copy", f"dir:{layout}", f"oci-archive:{packed}:{tag}")
    wanted = json.loads(skopeo("inspect", "--raw", f"oci-archive:{packed}"))
    assert {layer["mediaType"] for layer in wanted["layers"]} == {f"application/vnd.oci.image.layer.v1.tar+{format}"}
    docker_client.images.remove(tag)
    docker(engine, "load", "-i", str(packed))
    docker(engine, "save", "-o", str(tmp_path / "again.tar"), tag)
    assert json.loads(skopeo("inspect", "--raw", f"oci-archive:{tmp_path / 'again.tar'}")) == wanted
    raw = [skopeo("inspect", "--raw", f"oci-archive:{path}") for path in (packed, tmp_path / "again.tar")]
    assert raw[0] == raw[1]
    # Docker's old layout has the same layers, and whoever knows only that one unpacks them.
    skopeo("copy", f"docker-archive:{tmp_path / 'again.tar'}", f"dir:{tmp_path / 'plain'}")


def test_several_platforms_go_through_skopeo(engine: Any, docker_client: Any, tag: str, tmp_path: Path) -> None:
    archive, index = two_platforms(tag)
    docker(engine, "load", data=archive)
    docker(engine, "save", "-o", str(tmp_path / "saved.tar"), tag)
    assert skopeo("inspect", "--raw", f"oci-archive:{tmp_path / 'saved.tar'}") == index.decode()
    for machine in ("amd64", "arm64"):
        told = json.loads(
            skopeo("--override-arch", machine, "inspect", "--config", f"oci-archive:{tmp_path / 'saved.tar'}")
        )
        assert told["architecture"] == machine


def test_an_image_that_skopeo_packed_is_run(engine: Any, docker_client: Any, tag: str, tmp_path: Path) -> None:
    docker(engine, "save", "-o", str(tmp_path / "busybox.tar"), "busybox")
    skopeo(
        "copy", "--dest-compress", f"docker-archive:{tmp_path / 'busybox.tar'}", f"oci-archive:{tmp_path / 'x'}:{tag}"
    )
    docker(engine, "load", "-i", str(tmp_path / "x"))
    assert docker(engine, "run", "--rm", tag, "echo", "ran") == b"ran\n"


def test_a_configuration_keeps_what_we_do_not_know(docker_client: Any, engine: Any, tag: str, tmp_path: Path) -> None:
    content = layers(tag)[0]
    document = config([content], **{"moby.buildkit.buildinfo.v1": "xyz", "future": {"a": [1]}})
    manifest = [{"Config": "c.json", "RepoTags": [tag], "Layers": ["l.tar"]}]
    packed = gzip.compress(content)
    archive = tar([("c.json", document), ("l.tar", packed), ("manifest.json", json.dumps(manifest).encode())])
    docker(engine, "load", data=archive)
    assert docker_client.images.get(tag).id == digest(document)
    docker(engine, "save", "-o", str(tmp_path / "saved.tar"), tag)
    with tarfile.open(tmp_path / "saved.tar") as opened:
        assert opened.extractfile(f"blobs/sha256/{digest(document)[7:]}").read() == document  # type: ignore[union-attr]
        assert opened.extractfile(f"blobs/sha256/{digest(packed)[7:]}").read() == packed  # type: ignore[union-attr]
