"""Docker's client, the engine, and Docker's own registry.

On this computer always: the registries of these tests are programs in the engine's network namespace, on its loopback
device, and one of its certificates lies in the engine's folder.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from engines import Engine
from registries import Registry, authority

INSIDE = "10.123.0.1"
"""An address that is not one of loopback's, so that only TLS will do."""
OTHER = f"{INSIDE}:5001"


class Place:
    """An engine with its registries, and docker's client with a configuration of its own."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        subprocess.run(engine.in_network("ip", "address", "add", f"{INSIDE}/32", "dev", "lo"), check=True)
        self.plain = Registry(engine, folder / "plain", "127.0.0.1:5000")
        ca, certificate, key = authority(folder / "tls", INSIDE)
        self.locked = Registry(engine, folder / "locked", f"{INSIDE}:5443", tls=(certificate, key), users=True)
        self.unknown = Registry(engine, folder / "unknown", f"{INSIDE}:5444", tls=(certificate, key))
        self.strange = Registry(engine, folder / "strange", OTHER)
        known = engine.root / "certs.d" / self.locked.host
        known.mkdir(parents=True)
        (known / "ca.crt").write_bytes(ca.read_bytes())
        self.config = folder / "config"
        self.config.mkdir()

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DOCKER_HOST": self.engine.url, "DOCKER_CONFIG": str(self.config)}
        return subprocess.run(
            ["docker", *words], capture_output=True, text=True, env=environment, input=stdin, timeout=90, check=False
        )

    def ok(self, *words: str, stdin: str = "") -> str:
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode != 0
        return done.stderr.strip()

    def id(self, name: str) -> str:
        return self.ok("image", "inspect", "-f", "{{.Id}}", name).strip()


@pytest.fixture(scope="module")
def place(engine_with: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with engine_with("--registry-mirror", "http://127.0.0.1:5000") as engine:
        made = Place(engine, tmp_path_factory.mktemp("registries"))
        yield made
        for registry in (made.plain, made.locked, made.unknown, made.strange):
            registry.close()


@pytest.fixture
def image(place: Place, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name at the plain registry whose image is busybox and one small layer more."""
    name = f"localhost:5000/test/{request.node.name.lower().replace('_', '-').partition('[')[0]}"
    made = place.ok("run", "-d", "busybox", "sh", "-c", f"echo {name} >/mark").strip()
    place.ok("wait", made)
    place.ok("commit", made, f"{name}:latest")
    place.ok("rm", made)
    yield name
    for one in {*place.ok("image", "ls", "-q", "--no-trunc").split()}:
        if name in place.ok("image", "inspect", "-f", "{{.RepoTags}} {{.RepoDigests}}", one):
            place.run("image", "rm", "-f", one)


def test_push_and_pull(place: Place, image: str) -> None:
    pushed = place.ok("push", image)
    assert pushed.startswith(f"Using default tag: latest\nThe push refers to repository [{image}]\n")
    assert pushed.count(": Preparing") == 2
    assert pushed.count(": Pushed") >= 1
    last = pushed.splitlines()[-1]
    assert last.startswith("latest: digest: sha256:")
    assert int(last.rpartition("size: ")[2]) > 300
    digest = last.split()[2]
    before = place.id(image)
    assert f"{image}@{digest}" in place.ok("image", "inspect", "-f", "{{.RepoDigests}}", image)

    again = place.ok("push", image)
    assert again.count(": Layer already exists") == 2

    place.ok("rmi", image)
    pulled = place.ok("pull", image).splitlines()
    assert pulled[0:2] == ["Using default tag: latest", f"latest: Pulling from {image.partition('/')[2]}"]
    assert [line.partition(": ")[2] for line in pulled[2:]].count("Already exists") == 1
    assert [line.partition(": ")[2] for line in pulled[2:]].count("Pull complete") == 1
    assert pulled[-3:] == [f"Digest: {digest}", f"Status: Downloaded newer image for {image}:latest", f"{image}:latest"]
    assert place.id(image) == before
    assert place.ok("run", "--rm", image, "cat", "/mark").strip() == image
    assert f"Status: Image is up to date for {image}:latest" in place.ok("pull", image)
    assert " after https://localhost:5000" not in place.engine.log()  # that it has no TLS is nothing to tell of

    place.ok("rmi", image)
    by_digest = place.ok("pull", f"{image}@{digest}")
    assert f"Status: Downloaded newer image for {image}@{digest}" in by_digest
    assert place.id(f"{image}@{digest}") == before
    place.ok("rmi", f"{image}@{digest}")


def test_a_layer_that_is_packed_first_counts_once(place: Place, image: str) -> None:
    """dockerd names no sizes but those of what is sent."""
    path = f"/images/{image}/push?tag=latest"
    told = place.engine.sh(
        f"curl -s -m 60 --unix-socket {place.engine.socket} -X POST -H 'X-Registry-Auth: e30=' 'http://engine{path}'"
    )
    counts: dict[str, dict[str, set[int]]] = {}
    for one in map(json.loads, told.splitlines()):
        counts.setdefault(one.get("id", ""), {}).setdefault(one.get("status", ""), set()).update(
            {one["progressDetail"]["total"]} if one.get("progressDetail") else set()
        )
    layers = [statuses for identity, statuses in counts.items() if "Preparing" in statuses]
    assert layers and all(not one["Preparing"] for one in layers)
    assert any(len(one.get("Pushing", ())) == 1 for one in layers)


def test_rmi_takes_the_digest_along(place: Place, image: str) -> None:
    place.ok("push", image)
    removed = place.ok("rmi", image)
    assert removed.count("Untagged: ") == 2
    assert f"Untagged: {image}@sha256:" in removed
    assert "Deleted: sha256:" in removed


def test_all_tags(place: Place, image: str) -> None:
    place.ok("tag", image, f"{image}:one")
    place.ok("tag", image, f"{image}:two")
    assert place.ok("push", "-a", image).count("digest: sha256:") == 3
    for tag in ("latest", "one", "two"):
        place.ok("rmi", f"{image}:{tag}")
    pulled = place.ok("pull", "-a", image)
    assert pulled.count("Pulling from") == 3
    assert f"Status: Downloaded newer image for {image}\n" in pulled
    assert {line.split()[1] for line in place.ok("image", "ls", image).splitlines()[1:]} == {"latest", "one", "two"}


def test_a_layer_is_mounted_from_another_repository(place: Place, image: str) -> None:
    place.ok("push", image)
    place.ok("tag", image, f"{image}-copy")
    pushed = place.ok("push", f"{image}-copy")
    assert pushed.count(f": Mounted from {image.partition('/')[2]}") >= 1
    assert ": Pushed" not in pushed
    place.ok("rmi", f"{image}-copy")


def test_a_mirror_is_asked_for_images_of_docker_io(place: Place, image: str) -> None:
    place.ok("tag", image, "localhost:5000/library/mirrored")
    place.ok("push", "localhost:5000/library/mirrored")
    assert "Status: Downloaded newer image for mirrored:latest" in place.ok("pull", "mirrored")
    info = json.loads(place.ok("info", "-f", "{{json .RegistryConfig}}"))
    assert info["Mirrors"] == ["http://127.0.0.1:5000/"]
    place.ok("rmi", "mirrored", "localhost:5000/library/mirrored")


def test_what_is_not_there(place: Place) -> None:
    assert place.fails("pull", "localhost:5000/no/such") == (
        "Error response from daemon: manifest for localhost:5000/no/such:latest not found: "
        "manifest unknown: manifest unknown"
    )
    assert place.fails("push", "localhost:5000/no/such") == (
        "An image does not exist locally with the tag: localhost:5000/no/such"
    )
    client = docker.DockerClient(place.engine.url, timeout=60)
    with pytest.raises(docker.errors.NotFound):
        client.images.pull("localhost:5000/no/such", tag="latest")
    with pytest.raises(docker.errors.NotFound):
        client.images.get_registry_data("localhost:5000/no/such")
    client.close()


def test_registries_that_are_not_trusted(place: Place) -> None:
    unknown = place.fails("pull", f"{place.unknown.host}/x")
    assert unknown == (
        f'Error response from daemon: Get "https://{place.unknown.host}/v2/": tls: failed to verify certificate: '
        "x509: certificate signed by unknown authority"
    )
    assert place.fails("pull", f"{OTHER}/x") == (
        f'Error response from daemon: Get "https://{OTHER}/v2/": http: server gave HTTP response to HTTPS client'
    )
    assert place.fails("pull", "127.0.0.1:4999/x") == (
        'Error response from daemon: Get "http://127.0.0.1:4999/v2/": dial tcp 127.0.0.1:4999: connect: connection refused'
    )


def test_an_insecure_registry_is_one_that_is_listed(engine_with: Callable[..., Any], tmp_path: Path) -> None:
    with engine_with("--insecure-registry", OTHER) as engine:
        subprocess.run(engine.in_network("ip", "address", "add", f"{INSIDE}/32", "dev", "lo"), check=True)
        registry = Registry(engine, tmp_path, OTHER)
        client = docker.DockerClient(engine.url, timeout=60)
        client.images.get("busybox").tag(f"{OTHER}/busybox")
        pushed = [*client.images.push(f"{OTHER}/busybox", stream=True, decode=True)]
        assert pushed[-1]["aux"]["Tag"] == "latest"
        client.close()
        registry.close()


def test_login(place: Place, image: str) -> None:
    host = place.locked.host
    assert place.fails("pull", f"{host}/x") == (
        f'Error response from daemon: Head "https://{host}/v2/x/manifests/latest": no basic auth credentials'
    )
    wrong = place.run("login", "-u", "joe", "--password-stdin", host, stdin="wrong")
    assert wrong.returncode != 0
    assert f"login attempt to https://{host}/v2/ failed with status: 401 Unauthorized" in wrong.stderr
    assert "Login Succeeded" in place.ok("login", "-u", "joe", "--password-stdin", host, stdin="secret")
    place.ok("tag", image, f"{host}/private/thing")
    place.ok("push", f"{host}/private/thing")
    before = place.id(image)
    place.ok("rmi", image, f"{host}/private/thing")
    place.ok("pull", f"{host}/private/thing")
    assert place.id(f"{host}/private/thing") == before
    place.ok("rmi", f"{host}/private/thing")
    place.ok("logout", host)
    assert "no basic auth credentials" in place.fails("pull", f"{host}/private/thing")
    assert "secret" not in place.engine.log()


def test_distribution(place: Place, image: str) -> None:
    place.ok("push", image)
    client = docker.DockerClient(place.engine.url, timeout=60)
    data = client.images.get_registry_data(image)
    assert data.id.startswith("sha256:")
    assert data.attrs["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
    client.close()


def test_pulls_are_told_of(place: Place, image: str) -> None:
    place.ok("push", image)
    place.ok("rmi", image)
    client = docker.DockerClient(place.engine.url, timeout=60)
    since = place.engine.now()
    client.images.pull(image, tag="latest")
    events = [*client.events(since=since, until=place.engine.now() + 0.1, decode=True, filters={"event": "pull"})]
    client.close()
    assert [(one["Actor"]["ID"], one["Actor"]["Attributes"]["name"]) for one in events] == [(f"{image}:latest", image)]


def test_a_registry_in_a_container_is_reached_by_its_published_port(place: Place, image: str, tmp_path: Path) -> None:
    """As people do: run a registry, and push to localhost. Its port is not in use here but by the engine's rule."""
    from debian_files import registry_program

    place.ok(
        "run", "-d", "--name", "in-a-container", "-p", "5050:5000", "-v", f"{registry_program()}:/registry:ro",
        "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro", "-v", "/usr/lib:/usr/lib:ro", "-v", f"{place.config.parent}/plain:/etc/it",
        "-e", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/tmp", "-e", "REGISTRY_HTTP_ADDR=0.0.0.0:5000",
        "busybox", "/registry", "serve", "/etc/it/config.yml",
    )  # fmt: skip
    try:
        place.ok("tag", image, "localhost:5050/thing")
        pushed = ""
        for _ in range(50):  # until it listens
            done = place.run("push", "localhost:5050/thing")
            pushed = done.stdout
            if done.returncode == 0:
                break
        assert "latest: digest: sha256:" in pushed, place.ok("logs", "in-a-container")
        place.ok("rmi", "localhost:5050/thing")
        place.ok("pull", "127.0.0.1:5050/thing")
        place.ok("rmi", "127.0.0.1:5050/thing")
    finally:
        place.ok("rm", "-f", "in-a-container")


def test_a_client_that_leaves_ends_its_pull_and_a_killed_engine_leaves_nothing(place: Place, image: str) -> None:
    big = f"{image}-big"
    made = place.ok("run", "-d", "busybox", "sh", "-c", "dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null").strip()
    place.ok("wait", made)
    place.ok("commit", made, big)
    place.ok("rm", made)
    place.ok("push", big)
    place.ok("rmi", big)
    place.ok("image", "prune", "-f")
    url = f"http://x/images/create?fromImage={big}&tag=latest"
    for kill in (False, True):
        client = subprocess.Popen(
            ["curl", "-sN", "--unix-socket", str(place.engine.socket), "-X", "POST", url],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert client.stdout is not None
        for line in client.stdout:
            if '"Downloading"' in line:
                break
        if kill:
            place.engine.kill()
            client.wait(10)
            place.engine.start()
        else:
            client.kill()
            client.wait(10)
        client.stdout.close()
        # Asking for the images waits for what changes them.
        assert big not in place.ok("image", "ls")
    place.ok("pull", big)
    spooled = place.engine.names(place.engine.root / "tmp")
    assert [one for one in spooled if one.startswith(("pull-", "push-"))] == []
    assert [one for one in place.engine.names(place.engine.root / "layers") if one.startswith("incomplete")] == []
    place.ok("rmi", big)
