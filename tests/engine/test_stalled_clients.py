"""Clients that stop in the middle of an upload or a download: whatever else is asked of the engine goes on meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
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

pytestmark = [pytest.mark.root, pytest.mark.native]

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


@pytest.fixture
def full(make: Any) -> Any:
    """A container that has a file which fits into no buffer on the way to a client."""
    container = make("sh", "-c", "trap exit TERM; sleep 300 & wait")
    assert container.exec_run(["dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=16"]).exit_code == 0
    return container


@contextlib.contextmanager
def download(engine: Any, container: Any, target: str) -> Iterator[http.client.HTTPResponse]:
    """A response whose head has been read, and nothing of its body."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(engine.socket))
        client.sendall(f"GET /containers/{container.id}/{target} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.status == 200
        yield response


def live(client: Any, container: Any) -> None:
    """All that a container's life has: its end, its start, and both."""
    one = client.containers.get(container.id)
    one.stop(timeout=5)
    one.start()
    one.restart(timeout=5)
    one.reload()
    assert one.status == "running"


@pytest.mark.parametrize("target", ["archive?path=/big", "export"])
def test_a_download_that_has_stopped_holds_up_no_life_and_is_whole_in_the_end(
    engine: Any, impatient: Any, full: Any, target: str
) -> None:
    digest = full.exec_run(["sha256sum", "/big"]).output.split()[0].decode()
    with download(engine, full, target) as response:
        live(impatient, full)
        with tarfile.open(fileobj=response, mode="r|") as archive:
            found = {member.name: hashed(archive, member) for member in archive if member.name == "big"}
    assert found == {"big": digest}


def hashed(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = archive.extractfile(member)
    assert content is not None
    return hashlib.sha256(content.read()).hexdigest()


def test_an_upload_that_has_stopped_is_broken_off_by_a_start(engine: Any, impatient: Any, full: Any) -> None:
    archive = layer()
    with upload(engine, "PUT", f"/containers/{full.id}/archive?path=/tmp", archive, 1_000_000) as client:
        eventually(lambda: full.exec_run(["test", "-s", "/tmp/etc/noise"]).exit_code == 0)
        live(impatient, full)
        response = http.client.HTTPResponse(client)
        response.begin()
        assert response.status == 409
        assert b"the copy was broken off" in response.read()
    assert impatient.containers.get(full.id).put_archive("/tmp", archive)


@pytest.mark.parametrize("running", [True, False])
def test_stopped_copies_hold_up_no_removal(engine: Any, impatient: Any, full: Any, running: bool) -> None:
    if not running:
        full.stop(timeout=5)
    waiting = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(download(engine, full, "archive?path=/big"))
        for _ in range(3):
            target = f"/containers/{full.id}/archive?path=/tmp"
            waiting.append(stack.enter_context(upload(engine, "PUT", target, layer(), 1_000)))
        impatient.containers.get(full.id).remove(force=True)
        for client in waiting:
            said = client.recv(12)
            assert said in (b"HTTP/1.1 409", b"HTTP/1.1 404"), (said, client.recv(2000))
        assert full.id not in engine.sh(f"ls {engine.root}/containers")


@pytest.mark.parametrize("running", [True, False])
def test_stopped_copies_hold_up_no_other_copy(engine: Any, impatient: Any, full: Any, running: bool) -> None:
    digest = full.exec_run(["sha256sum", "/big"]).output.split()[0].decode()
    if not running:
        full.stop(timeout=5)
    one = impatient.containers.get(full.id)
    put = f"/containers/{full.id}/archive?path=/tmp"
    with contextlib.ExitStack() as stack:
        stalled = [
            stack.enter_context(download(engine, full, target)) for target in ("archive?path=/big", "export") * 3
        ]
        senders = [stack.enter_context(upload(engine, "PUT", put, layer(), 1_000_000)) for _ in range(6)]
        assert one.put_archive("/tmp", tar([("words", b"said")]))
        pieces, stat = one.get_archive("/tmp/words")
        assert (stat["size"], b"said" in b"".join(pieces)) == (4, True)
        assert b"words" in b"".join(one.export())
        for response in stalled:  # what they have asked for is whole all the same
            with tarfile.open(fileobj=response, mode="r|") as archive:
                assert digest in {hashed(archive, member) for member in archive if member.name == "big"}
        for sender in senders:
            sender.close()
        one.remove(force=True)


def test_a_copy_that_stopped_before_the_containers_end_holds_up_none_after_it(
    engine: Any, impatient: Any, full: Any
) -> None:
    """The stalled ones look at the mounts that the container had: there must be no second mount of its files beside."""
    with (
        download(engine, full, "archive?path=/big") as response,
        upload(engine, "PUT", f"/containers/{full.id}/archive?path=/tmp", layer(), 1_000_000) as sender,
    ):
        one = impatient.containers.get(full.id)
        eventually(lambda: full.exec_run(["test", "-s", "/tmp/etc/noise"]).exit_code == 0)
        one.stop(timeout=5)
        assert one.get_archive("/etc/passwd")[1]["name"] == "passwd"
        assert sender.recv(12) == b"HTTP/1.1 409"
        with tarfile.open(fileobj=response, mode="r|") as archive:
            assert [member.size for member in archive] == [16 << 20]
