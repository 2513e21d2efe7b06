"""Images through the engine's socket, with the Docker SDK and the docker command."""

import gzip
import lzma
import os
import socket
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from image_archives import digest, docker_archive, oci_archive, special, tar
from life_support import ask, eventually

pytestmark = [pytest.mark.root, pytest.mark.native]


@pytest.fixture
def tag(docker_client: Any) -> Iterator[str]:
    """A name of this test's own; images that still have it go afterwards."""
    name = f"test/{uuid.uuid4().hex[:12]}"
    yield f"{name}:latest"
    for image in docker_client.images.list(name):
        docker_client.images.remove(image.id, force=True)


def run(engine: Any, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        ["docker", *words], input=data, capture_output=True, timeout=60, env={**os.environ, "DOCKER_HOST": engine.url}
    )
    return subprocess.CompletedProcess(words, result.returncode, result.stdout.decode(), result.stderr.decode())


def cove(engine: Any, *words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of Cove's own command."""
    environment = {**os.environ, "COVE_HOST": engine.url}
    words = (sys.executable, "-m", "cove", *words)
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    return done.returncode, done.stdout, done.stderr


def left_behind(engine: Any) -> list[str]:
    """What is left of archives that were not taken in whole."""
    return engine.sh(f"cd {engine.root}; ls -A tmp; ls -A layers | grep '^incomplete-' || true").split()


def layer(content: str) -> bytes:
    return tar([("etc", special(tarfile.DIRTYPE)), ("etc/motd", content.encode())])


def test_load_says_what_it_loaded(engine: Any, tag: str) -> None:
    result = run(engine, "load", data=docker_archive([layer(tag)], [tag]))
    assert (result.returncode, result.stdout) == (0, f"Loaded image: {tag}\n")


def test_load_without_a_name_gives_the_id(engine: Any, docker_client: Any, tag: str) -> None:
    archive = docker_archive([layer(tag)], [])
    result = run(engine, "load", data=archive)
    assert result.stdout.startswith("Loaded image ID: sha256:")
    docker_client.images.remove(result.stdout.split()[-1])


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_load_of_a_compressed_archive(docker_client: Any, tag: str, compress: Any) -> None:
    (image,) = docker_client.images.load(compress(docker_archive([layer(tag)], [tag])))
    assert image.tags == [tag]


def test_load_of_an_oci_layout_with_compressed_layers(docker_client: Any, engine: Any, tag: str) -> None:
    content = layer(tag)
    (image,) = docker_client.images.load(oci_archive([content], tag, stored=[gzip.compress(content)]))
    assert image.tags == [tag]
    assert image.attrs["RootFS"]["Layers"] == [digest(content)]


def test_inspect_tells_what_the_archive_said(docker_client: Any, tag: str) -> None:
    layers = [layer(tag), layer(tag + "2")]
    (image,) = docker_client.images.load(docker_archive(layers, [tag]))
    attributes = image.attrs
    assert attributes["RootFS"] == {"Type": "layers", "Layers": [digest(one) for one in layers]}
    assert attributes["Created"] == "2024-05-06T07:08:09.123456789Z"
    assert attributes["Config"]["Cmd"] == ["/bin/sh"]
    assert attributes["Config"]["Labels"] == {"made": "by-tests"}
    assert (attributes["Os"], attributes["Architecture"]) == ("linux", "amd64")
    assert attributes["Size"] == 2 * len(tag) + 1
    assert docker_client.images.get(image.id[7:19]).id == image.id


def test_history_is_newest_first(docker_client: Any, tag: str) -> None:
    (image,) = docker_client.images.load(docker_archive([layer(tag), layer("x" * 100)], [tag]))
    history = image.history()
    assert [entry["CreatedBy"] for entry in history] == ["CMD sh", "layer 1", "layer 0"]
    assert [entry["Size"] for entry in history] == [0, 100, len(tag)]
    assert history[0]["Id"] == image.id and history[0]["Tags"] == [tag]
    assert {entry["Id"] for entry in history[1:]} == {"<missing>"}


def test_loading_another_image_takes_the_name_over(engine: Any, docker_client: Any, tag: str) -> None:
    (old,) = docker_client.images.load(docker_archive([layer("old")], [tag]))
    result = run(engine, "load", data=docker_archive([layer("new")], [tag]))
    assert f"The image {tag} already exists, renaming the old one with ID {old.id} to empty string" in result.stdout
    assert docker_client.images.get(tag).id != old.id
    assert docker_client.images.get(old.id).tags == []
    assert old.id in [image.id for image in docker_client.images.list(filters={"dangling": True})]
    docker_client.images.remove(old.id)


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (b"", "neither manifest.json nor index.json"),
        (b"no archive at all" * 100, "archive/tar: invalid tar header"),
        (b"not even a block\n", "archive/tar: invalid tar header: this is not a tar archive"),
        (tar([("manifest.json", b"[]")])[:700], "unexpected EOF"),
        (gzip.compress(docker_archive([layer("x")], ["t/x"]))[:-10], "compression is damaged"),
        (tar([("manifest.json", b"{")]), "is not JSON"),
        (tar([("manifest.json", b'[{"Config": "../../etc/passwd", "Layers": []}]')]), "lacks"),
        (tar([("manifest.json", b"[]" + b" " * (5 << 20))]), "larger than"),
        (docker_archive([layer("x")], ["t/UPPER"]), "must be lowercase"),
        (docker_archive([layer("x")], ["t/x"], rootfs={"diff_ids": [digest(b"other")]}), "layer verification failed"),
        (docker_archive([layer("x")], ["t/x"], rootfs={"diff_ids": []}), "has 1 layers"),
        (docker_archive([layer("x")], ["t/x"], os="windows"), "operating system 'windows'"),
        (docker_archive([layer("x")], ["t/x"], config={"Env": "PATH"}), "config.Env must be a list of strings"),
        (docker_archive([layer("x")], ["t/x"], config={"StopSignal": 9}), "invalid image config: config.StopSignal"),
        (docker_archive([layer("x")], ["t/x"], config={"Healthcheck": 1}), "config.Healthcheck must be an object"),
        (docker_archive([layer("x")], ["t/x"], history=5), "history must be a list of objects"),
        (tar([("manifest.json", b'[{"Config": "c", "Layers": 5}]')]), "Layers must be a list of strings"),
        (tar([("index.json", b'{"schemaVersion": 2, "manifests": {"mediaType": []}}')]), "manifests must be"),
        (tar([("index.json", b"[" * 100_000)]), "nested too deeply"),
        (tar([("n" * 256, b"")]), "name in the archive is longer"),
    ],
)
def test_bad_archives_are_refused_with_a_reason(engine: Any, docker_client: Any, archive: bytes, message: str) -> None:
    before = {image.id for image in docker_client.images.list(all=True)}
    result = run(engine, "load", data=archive)
    assert result.returncode != 0
    assert message in result.stderr + result.stdout
    assert {image.id for image in docker_client.images.list(all=True)} == before
    assert not left_behind(engine)


def test_import_with_changes(engine: Any, docker_client: Any, tag: str) -> None:
    changes = ['CMD ["httpd", "-f"]', "ENV A=1 B='two words'", "EXPOSE 80 53/udp", "WORKDIR srv", "USER 7:8",
               'LABEL k="v w"', "VOLUME /data", "STOPSIGNAL SIGINT", "ENTRYPOINT run it"]  # fmt: skip
    words = [word for change in changes for word in ("--change", change)]
    result = run(engine, "import", *words, "-m", "hello", "-", tag, data=layer(tag))
    assert result.returncode == 0, result.stderr
    image = docker_client.images.get(tag)
    assert result.stdout.strip() == image.id
    config = image.attrs["Config"]
    assert config["Cmd"] == ["httpd", "-f"]
    assert config["Entrypoint"] == ["/bin/sh", "-c", "run it"]
    assert config["Env"] == ["A=1", "B=two words"]
    assert config["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert (config["WorkingDir"], config["User"], config["StopSignal"]) == ("/srv", "7:8", "SIGINT")
    assert (config["Labels"], config["Volumes"]) == ({"k": "v w"}, {"/data": {}})
    assert image.attrs["Comment"] == "hello"


@pytest.mark.parametrize("change", ["RUN rm -rf /", "EXPOSE 99999", "LABEL =", "ENV A"])
def test_import_refuses_changes_that_it_cannot_make(engine: Any, change: str) -> None:
    result = run(engine, "import", "--change", change, "-", data=layer("x"))
    assert result.returncode == 1
    assert "Error response from daemon" in result.stderr


def test_a_container_keeps_its_image_when_that_is_removed_by_force(docker_client: Any, tag: str) -> None:
    base = docker_client.containers.create("busybox", ["echo", "hi"])
    image = base.commit(tag.removesuffix(":latest"), "latest")
    container = docker_client.containers.create(image.id, ["echo", "hi"])
    try:
        docker_client.images.remove(tag, force=True)
        container.start()
        assert container.wait()["StatusCode"] == 0
        assert container.logs() == b"hi\n"
        assert docker_client.api.df()["Containers"]
        with pytest.raises(docker.errors.APIError, match="cannot be forced"):
            docker_client.images.remove(image.id, force=True)
    finally:
        container.remove()
        base.remove()
    docker_client.images.remove(image.id)
    with pytest.raises(docker.errors.ImageNotFound):
        docker_client.images.get(image.id)


def test_tag_list_and_remove(docker_client: Any, tag: str) -> None:
    (image,) = docker_client.images.load(docker_archive([layer(tag)], [tag]))
    other = tag.replace(":latest", "-other:v1")
    image.tag(other.partition(":")[0], "v1")
    assert sorted(docker_client.images.get(tag).tags) == sorted([tag, other])
    with pytest.raises(docker.errors.APIError) as error:
        docker_client.images.remove(image.id)
    assert error.value.status_code == 409
    assert error.value.explanation == (
        f"conflict: unable to delete {image.id[7:19]} (must be forced) - image is referenced in multiple repositories"
    )
    assert [one.id for one in docker_client.images.list(other)] == [image.id]
    docker_client.images.remove(other)
    assert docker_client.images.get(image.id).tags == [tag]
    docker_client.images.remove(tag)
    with pytest.raises(docker.errors.ImageNotFound, match=f"No such image: {tag}"):
        docker_client.images.get(tag)


def test_layers_are_shared_and_go_with_their_last_image(engine: Any, docker_client: Any, tag: str) -> None:
    base = layer(f"base of {tag}")
    first, second = tag, tag.replace(":latest", "-two:latest")
    docker_client.images.load(docker_archive([base, layer("1")], [first]))
    docker_client.images.load(docker_archive([base, layer("2")], [second]))
    directory = Path(engine.root, "layers", digest(base).removeprefix("sha256:"))
    docker_client.images.remove(first)
    assert engine.read(directory / "diff/etc/motd") == f"base of {tag}"
    docker_client.images.remove(second)
    assert not engine.exists(directory)


def test_filters(docker_client: Any, tag: str) -> None:
    (image,) = docker_client.images.load(docker_archive([layer(tag)], [tag]))
    listed = docker_client.images.list
    assert [one.id for one in listed(filters={"reference": tag.partition(":")[0]})] == [image.id]
    assert image.id in [one.id for one in listed(filters={"reference": "test/*:latest"})]
    assert image.id not in [one.id for one in listed(filters={"reference": "*"})]
    assert image.id in [one.id for one in listed(filters={"label": "made=by-tests"})]
    assert image.id not in [one.id for one in listed(filters={"label": "made=by-others"})]
    assert image.id not in [one.id for one in listed(filters={"before": tag})]
    with pytest.raises(docker.errors.APIError, match="invalid filter 'colour'"):
        listed(filters={"colour": "red"})


def test_prune_takes_what_has_no_name(docker_client: Any, tag: str) -> None:
    (kept,) = docker_client.images.load(docker_archive([layer(tag)], [tag]))
    (loose,) = docker_client.images.load(docker_archive([layer(tag + "loose")], []))
    pruned = docker_client.images.prune()
    assert {"Deleted": loose.id} in pruned["ImagesDeleted"]
    assert pruned["SpaceReclaimed"] >= len(tag)
    assert docker_client.images.get(tag).id == kept.id


@pytest.mark.parametrize("name", ["a//b", "UPPER", "x:", "x@sha256:12", "-x", "f" * 64])
def test_names_that_are_none(engine: Any, docker_client: Any, tag: str, name: str) -> None:
    (image,) = docker_client.images.load(docker_archive([layer(tag)], [tag]))
    with pytest.raises(docker.errors.APIError) as error:
        image.tag(name)
    assert error.value.status_code == 400


def test_a_client_that_leaves_during_a_load_leaves_nothing_behind(engine: Any, tag: str) -> None:
    archive = docker_archive([os.urandom(3_000_000)], [tag])
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(engine.socket))
        client.sendall(
            b"POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\n"
            + f"Content-Length: {len(archive)}\r\n\r\n".encode()
            + archive[:1_000_000]
        )
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        assert left_behind(engine)
    eventually(lambda: not left_behind(engine))


def test_an_image_goes_back_in_its_history(engine: Any, docker_client: Any, tag: str) -> None:
    repository = tag.removesuffix(":latest")
    first = docker_client.containers.run("busybox", "touch /first", detach=True)
    first.wait()
    made = first.commit(repository, "one")
    second = docker_client.containers.run(made.id, "touch /second", detach=True)
    second.wait()
    second.commit(repository, "two")
    for container in (first, second):
        container.remove()
    status, answer = ask(engine, "POST", f"/images/create?fromSrc=back:1:{repository}:two&repo={repository}&tag=old")
    assert status == 200 and answer["status"] == docker_client.images.get(f"{repository}:old").id
    assert docker_client.images.get(f"{repository}:old").attrs["RootFS"] == made.attrs["RootFS"]
    files = docker_client.containers.run(f"{repository}:old", ["sh", "-c", "echo /first /sec*"], remove=True)
    assert files == b"/first /sec*\n"
    assert len(docker_client.images.get(f"{repository}:old").history()) == 2
    for words, said in (
        (("run", "--rm", f"{repository}:two~", "sh", "-c", "echo /first /sec*"), "/first /sec*\n"),
        (("run", "--rm", f"{repository}:two~0", "sh", "-c", "echo /first /sec*"), "/first /second\n"),
        (("tag", f"{repository}:two~1", f"{repository}:tagged"), ""),
    ):
        assert cove(engine, *words) == (0, said, "")
    assert docker_client.images.get(f"{repository}:tagged").id == made.id  # the image that the history names
    status, _, told = cove(engine, "run", f"{repository}:two~9", "true")
    assert (status, told.splitlines()[0]) == (
        125,
        "cove: Error response from daemon: the image has 3 steps: it can go back by 1 to 2",
    )
    for source in ("back:9:busybox", "back:0:busybox", "back:x:busybox", "back:1"):
        assert ask(engine, "POST", f"/images/create?fromSrc={source}")[0] == 400
    assert ask(engine, "POST", "/images/create?fromSrc=back:1:nothing")[0] == 404
    for name in ("one", "two", "old", "tagged"):
        docker_client.images.remove(f"{repository}:{name}")
