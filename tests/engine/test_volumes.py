"""Volumes through the engine's socket."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

pytestmark = pytest.mark.root


@pytest.fixture
def name(docker_client: Any) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    for volume in docker_client.volumes.list(filters={"name": name}):
        volume.remove(force=True)


def test_life_of_a_volume(engine: Any, docker_client: Any, name: str) -> None:
    volume = docker_client.volumes.create(name, labels={"tier": "db"})
    assert volume.attrs["Driver"] == "local" and volume.attrs["Scope"] == "local"
    assert volume.attrs["Labels"] == {"tier": "db"}
    mountpoint = Path(volume.attrs["Mountpoint"])
    assert mountpoint == Path(engine.root, "volumes", name, "_data") and engine.exists(mountpoint)
    assert docker_client.volumes.get(name).attrs == volume.attrs
    assert [one.name for one in docker_client.volumes.list(filters={"label": "tier=db", "name": name})] == [name]
    volume.remove()
    assert not engine.exists(mountpoint.parent)
    with pytest.raises(docker.errors.NotFound) as error:
        docker_client.volumes.get(name)
    assert error.value.explanation == f"get {name}: no such volume"


def test_the_docker_command(engine: Any, name: str) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DOCKER_HOST": engine.url}
        return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60, env=environment)

    assert run("volume", "create", name).stdout == f"{name}\n"
    assert run("volume", "inspect", "-f", "{{.Name}}", name).stdout == f"{name}\n"
    refused = run("volume", "create", "x!")
    assert refused.returncode == 1
    assert refused.stderr == (
        'Error response from daemon: create x!: "x!" includes invalid characters for a local volume name, only '
        '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path\n'
    )
    assert run("volume", "rm", name).stdout == f"{name}\n"


def test_prune_answers_what_is_gone(docker_client: Any, name: str) -> None:
    anonymous = docker_client.volumes.create()
    docker_client.volumes.create(name)
    pruned = docker_client.volumes.prune()
    assert anonymous.name in pruned["VolumesDeleted"] and name not in pruned["VolumesDeleted"]
    assert name in docker_client.volumes.prune(filters={"all": True})["VolumesDeleted"]


def test_events_of_volumes(docker_client: Any, name: str) -> None:
    stream = docker_client.events(decode=True, filters={"type": "volume", "volume": name})
    volume = docker_client.volumes.create(name)
    assert next(stream)["Action"] == "create"
    volume.remove()
    event = next(stream)
    assert (event["Action"], event["Actor"]["ID"]) == ("destroy", name)
    stream.close()


def test_volumes_of_a_container_that_is_not_there(docker_client: Any) -> None:
    with pytest.raises(docker.errors.APIError, match="No such container: nobody") as error:
        docker_client.containers.create("busybox", volumes_from=["nobody"])
    assert error.value.status_code == 400  # with 404 docker's client would pull the image
