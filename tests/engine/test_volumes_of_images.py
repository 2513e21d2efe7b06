"""Volumes that an image asks for, and that get what it has at their place."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import tarfile
import time
import uuid
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from life_support import ask

pytestmark = [pytest.mark.root, pytest.mark.native]


@pytest.fixture
def image(docker_client: Any) -> Iterator[str]:
    """An image with a volume at /x, where it has a device that no driver answers for: opening it fails (ENXIO)."""
    name = f"i-{uuid.uuid4().hex[:12]}"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("x")
        member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 60, 77  # for experiments, devices.txt
        tar.addfile(member)
    docker_client.api.import_image_from_data(data.getvalue(), name, "latest", changes=["VOLUME /x", 'CMD ["/none"]'])
    yield name
    docker_client.images.remove(name, force=True)


def test_a_device_at_a_volumes_place_is_not_opened_and_no_folder(engine: Any, docker_client: Any, image: str) -> None:
    before = [one.name for one in docker_client.volumes.list()]
    status, answer = ask(engine, "POST", "/containers/create", {"Image": image})
    assert status == 500
    assert answer["message"].startswith("source ") and answer["message"].endswith("/root/x is not directory")
    assert [one.name for one in docker_client.volumes.list()] == before  # and it leaves none behind
    assert len(engine.names(engine.root / "containers")) == len(docker_client.containers.list(all=True))


def killed_amid(engine: Any, body: dict[str, Any]) -> bool:
    """Kills it while the container `gone` is created. Whether it was too late."""
    there = len(engine.names(engine.root / "volumes"))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = pool.submit(ask, engine, "POST", "/containers/create?name=gone", body)
        while len(engine.names(engine.root / "volumes")) < there + 2:
            time.sleep(0.001)
        engine.kill()
        with contextlib.suppress(OSError, ValueError):  # it has not been answered
            assert asked.result(60)[0] == 201
            return True
    return False


def test_an_engine_that_is_killed_while_a_container_is_created_leaves_no_volume_of_it(own_engine: Any) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for number in range(5_000):  # takes a while to copy
            tar.addfile(tarfile.TarInfo(f"x/{number}"))
    body = {"Image": "busybox", "Volumes": {"/x": {}}, "HostConfig": {"Mounts": [{"Type": "volume", "Target": "/y"}]}}
    with contextlib.closing(docker.DockerClient(own_engine.url, timeout=60)) as client:
        client.api.import_image_from_data(data.getvalue(), "many", "latest", changes=["VOLUME /x"])
        ask(own_engine, "POST", "/containers/create?name=kept", body)
        client.api.remove_container("kept")
        left = {one.name for one in client.volumes.list()}
        assert len(left) == 2
        body["Image"], body["Cmd"] = "many", ["/none"]
        while killed_amid(own_engine, body):  # on a computer that stands still it is created before it can be killed
            own_engine.start()
            client.api.remove_container("gone", v=True)
        own_engine.start()
        assert client.containers.list(all=True) == []
        assert {one.name for one in client.volumes.list()} == left
    assert {*own_engine.names(own_engine.root / "volumes")} == left
