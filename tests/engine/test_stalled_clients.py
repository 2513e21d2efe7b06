"""Clients that stop in the middle of an upload or a download: whatever else is asked of the engine goes on meanwhile."""

from __future__ import annotations

import contextlib
import os
import socket
import tarfile
import uuid
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from image_archives import docker_archive, special, tar
from life_support import eventually

PATIENCE_S = 10
"""Far more than anything takes that waits for nobody."""


@pytest.fixture
def impatient(engine: Any) -> Iterator[Any]:
    client = docker.DockerClient(engine.url, timeout=PATIENCE_S)
    yield client
    client.close()


@pytest.fixture
def tag(docker_client: Any) -> Iterator[str]:
    """A name of this test's own; images that still have it go afterwards."""
    name = f"test/{uuid.uuid4().hex[:12]}"
    yield name
    for image in docker_client.images.list(name):
        docker_client.images.remove(image.id, force=True)


@contextlib.contextmanager
def upload(engine: Any, method: str, target: str, archive: bytes, sent: int) -> Iterator[socket.socket]:
    """A request whose body has stopped after so many bytes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(engine.socket))
        head = f"{method} {target} HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\n"
        client.sendall(f"{head}Content-Length: {len(archive)}\r\n\r\n".encode() + archive[:sent])
        yield client


def unpacking(engine: Any) -> int:
    """How many layers are being unpacked."""
    return engine.sh(f"ls {engine.root}/layers").count("incomplete-")


def layer() -> bytes:
    return tar([("etc", special(tarfile.DIRTYPE)), ("etc/noise", os.urandom(3_000_000))])


def change_images(client: Any, tag: str) -> None:
    """All that changes images."""
    assert client.images.load(docker_archive([layer()], [f"{tag}:loaded"]))
    client.api.import_image_from_data(layer(), tag, "imported")
    assert client.images.get(f"{tag}:loaded").tag(tag, "tagged")
    client.images.remove(f"{tag}:tagged")
    client.images.remove(f"{tag}:loaded")
    client.images.remove(f"{tag}:imported")


def test_an_import_that_has_stopped_holds_up_no_change_of_images(engine: Any, impatient: Any, tag: str) -> None:
    archive = layer()
    before = unpacking(engine)
    with upload(engine, "POST", f"/images/create?fromSrc=-&repo={tag}&tag=slow", archive, 1_000_000) as client:
        eventually(lambda: unpacking(engine) == before + 1)
        change_images(impatient, tag)
        client.sendall(archive[1_000_000:])
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        eventually(lambda: unpacking(engine) == before)
    assert impatient.images.get(f"{tag}:slow")


def test_loads_and_imports_that_have_stopped_take_no_worker_from_others(engine: Any, impatient: Any, tag: str) -> None:
    archive = docker_archive([layer()], [f"{tag}:slow"])
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(upload(engine, "POST", "/images/load", archive, 1_000_000))
            stack.enter_context(upload(engine, "POST", "/images/create?fromSrc=-", archive, 1_000_000))
        eventually(lambda: unpacking(engine) == 10)
        change_images(impatient, tag)
    eventually(lambda: unpacking(engine) == 0)
