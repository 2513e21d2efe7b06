"""No room left on the engine's disk, or no inodes: every request says so in Docker's words, nothing that was there is lost, and
all goes on as soon as there is room again, without a restart."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from life_support import eventually

pytestmark = pytest.mark.root
FULL = "no space left on device"
_SIZE, _INODES = 24 << 20, 3000


class Disk:
    """A small file system that the engine's root is on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill_bytes(self) -> None:
        with (self.path / "filler").open("ab", buffering=0) as file, contextlib.suppress(_Full):
            for size in (1 << 16, 1 << 12):
                with _until_full():
                    while True:
                        file.write(bytes(size))

    def fill_inodes(self) -> None:
        folder = self.path / "filler"
        folder.mkdir()
        with _until_full():
            for number in range(2 * _INODES):
                (folder / str(number)).touch()

    def free(self) -> None:
        subprocess.run(["rm", "-rf", self.path / "filler"], check=True, timeout=30)


class _Full(Exception):
    pass


@contextlib.contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    """A file system as the machine's: of some 56 MiB, and 4000 inodes, for the engine alone."""
    image, path = tmp_path / "image", tmp_path / "ext4"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-N", "4000", image], check=True, timeout=30)
    path.mkdir()
    subprocess.run(["mount", "-o", "loop", image, path], check=True, timeout=30)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True, timeout=30)


FILLING = {
    "bytes": "dd if=/dev/zero of=/big bs=64k 2>/dev/null; dd if=/dev/zero of=/small bs=512 2>/dev/null; echo full",
    "inodes": "mkdir /d; i=0; while : >/d/$i; do i=$((i+1)); done 2>/dev/null; echo full",
}


@pytest.mark.parametrize("what", FILLING)
@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("created", ["nothing more", "all that goes"])
def test_removing_and_starting_on_a_disk_that_a_container_has_filled(
    ext4: Path, engine_with: Callable[..., Any], what: str, end: str, created: str
) -> None:
    with engine_with("--root", str(ext4)) as engine:
        client = docker.DockerClient(engine.url, timeout=60)
        try:
            client.containers.run("busybox", ["sleep", "7200"], name="long", detach=True, stop_signal="KILL")
            client.containers.run("busybox", ["echo", "kept"], name="ended")
            client.containers.run("busybox", ["sh", "-c", "echo x >/x"], name="source")
            client.containers.get("source").commit("other")
            client.volumes.create("data")
            client.networks.create("net")
            filler = client.containers.run("busybox", ["sh", "-c", FILLING[what]], name="filler", detach=True)
            filler.wait()
            assert filler.logs() in (b"full\n", b"")  # there may be no room for that
            if created != "nothing more":
                for make in (client.volumes.create, lambda name: client.containers.create("busybox", name=name)):
                    assert FULL in said(_many, make)
                assert "remove images, containers or volumes" in said(client.volumes.create, "another")
            for _ in range(2):  # what one engine leaves behind, another finds
                client.close()
                if end == "kill":
                    engine.kill()
                else:
                    assert engine.process is not None
                    engine.process.terminate()
                    assert engine.process.wait(40) == 0
                engine.start()
            assert {"ended", "filler", "source"} <= {one.name for one in client.containers.list(all=True)}
            assert client.containers.get("ended").attrs["State"]["ExitCode"] == 0
            assert client.containers.get("ended").logs() == b"kept\n"
            with pytest.raises(docker.errors.ImageLoadError, match="remove images, containers or volumes"):
                client.images.load(_many_files())

            if what == "inodes":
                assert FULL in said(client.containers.get("ended").start)  # in words of the runtime

            client.containers.get("source").remove()
            client.images.remove("other")
            client.containers.get("long").remove(force=True)
            client.volumes.get("data").remove()
            client.networks.get("net").remove()
            assert filler.id in client.containers.prune()["ContainersDeleted"]
            client.volumes.prune(filters={"all": True})
            client.images.prune()
            assert client.containers.list(all=True) == []

            eventually(lambda: [*(ext4 / "removed").iterdir()] == [])
            assert client.containers.run("busybox", ["sh", "-c", "echo x >/x && cat /x"], remove=True) == b"x\n"
            client.volumes.create("again").remove()
        finally:
            client.close()


def test_removing_while_a_container_takes_whatever_becomes_free(ext4: Path, engine_with: Callable[..., Any]) -> None:
    with engine_with("--root", str(ext4)) as engine:
        client = docker.DockerClient(engine.url, timeout=60)
        try:
            writing = "while :; do cat /dev/zero >>/big; done 2>/dev/null"
            greedy = client.containers.run(
                "busybox", ["sh", "-c", writing], name="greedy", detach=True, stop_signal="KILL"
            )
            eventually(lambda: os.statvfs(ext4).f_bavail == 0)
            for number in range(600):  # more than the log has room for: it must be begun anew
                client.api.rename(greedy.id, f"greedy-{number}")
            engine.kill()
            engine.start()
            assert os.statvfs(ext4).f_bavail < 1 << 10
            assert client.containers.get(greedy.id).status == "running"
            client.containers.get(greedy.id).remove(force=True)
            eventually(lambda: [*(ext4 / "removed").iterdir()] == [])
            assert client.containers.run("busybox", ["echo", "room"], remove=True) == b"room\n"
        finally:
            client.close()


def _many_files() -> bytes:
    """An archive that neither the bytes nor the inodes of a full disk are left for."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as written:
        for number in range(4000):
            member = tarfile.TarInfo(f"{number}")
            member.size = 4096
            written.addfile(member, io.BytesIO(bytes(4096)))
    return output.getvalue()


@pytest.fixture(params=["bytes", "inodes"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Disk, Callable[[], None]]]:
    options = f"size={_SIZE}" + (f",nr_inodes={_INODES}" if request.param == "inodes" else "")
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", path], check=True, timeout=30)
    made = Disk(path)
    try:
        yield made, made.fill_bytes if request.param == "bytes" else made.fill_inodes
    finally:
        subprocess.run(["umount", "--lazy", path], check=True, timeout=30)


def said(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """What the engine refuses it with."""
    with pytest.raises(docker.errors.APIError) as caught:
        call(*arguments, **options)
    assert caught.value.response.status_code == 500, caught.value
    return str(caught.value.explanation)


def archive() -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as written:
        for number in range(20):
            member = tarfile.TarInfo(f"file-{number}")
            member.size = 1 << 16
            written.addfile(member, io.BytesIO(bytes(member.size)))
    return output.getvalue()


def test_a_full_disk(disk: tuple[Disk, Callable[[], None]], engine_with: Callable[..., Any]) -> None:
    small, fill = disk
    with engine_with("--root", str(small.path)) as engine:
        client = docker.DockerClient(engine.url, timeout=60)
        try:
            _walk_through(client, small, fill, engine)
        finally:
            client.close()


def _many(make: Callable[[str], Any]) -> None:
    for number in range(1000):
        make(f"more-{number}")


def _walk_through(client: Any, small: Disk, fill: Callable[[], None], engine: Any) -> None:
    long = client.containers.run("busybox", ["sleep", "7200"], name="long", detach=True)
    other = client.containers.run("busybox", ["sleep", "7200"], name="other", detach=True)
    ended = client.containers.run(
        "busybox",
        ["sh", "-c", "echo kept > /v/kept; echo said; exit 7"],
        name="ended",
        detach=True,
        volumes={"data": {"bind": "/v"}},
    )
    assert ended.wait()["StatusCode"] == 7
    image = ended.commit("kept")
    client.close()  # the SDK keeps connections
    before = engine.descriptors()

    fill()
    assert long.exec_run(["sh", "-c", "echo x > /x && cat /x"]).exit_code != 0
    assert FULL in said(client.api.import_image_from_data, archive(), "more")
    assert FULL in said(long.put_archive, "/", archive())
    # Small things fit into what files have reserved; the one that does not is refused, and nothing of it is left.
    assert FULL in said(_many, lambda name: client.containers.create("busybox", "true", name=name))
    assert FULL in said(_many, client.volumes.create)
    there = [one for one in client.containers.list(all=True) if one.name.startswith("more")]
    assert len([*(small.path / "containers").iterdir()]) == 3 + len(there)
    for one in there:
        one.remove()
    assert long.exec_run(["echo", "there"]).output == b"there\n"  # what needs no room is had
    # The end of a container is no matter of room.
    other.kill()
    other.reload()
    assert (other.status, other.attrs["State"]["ExitCode"]) == ("exited", 137)
    assert ended.logs() == b"said\n"
    assert {one.name for one in client.containers.list(all=True)} == {"long", "other", "ended"}
    assert [one.id for one in client.images.list("kept")] == [image.id]

    small.free()
    assert client.containers.run("kept", ["cat", "/v/kept"], volumes={"data": {"bind": "/v"}}, remove=True) == b"kept\n"
    client.volumes.create("more")
    client.api.import_image_from_data(archive(), "more")
    assert long.put_archive("/", archive())
    assert long.exec_run(["sh", "-c", "echo x > /x && cat /x"]).output == b"x\n"
    ended.start()
    assert ended.wait()["StatusCode"] == 7
    client.close()
    eventually(lambda: engine.descriptors() <= before)

    # What could not be noted while there was no room is known to the next engine all the same.
    engine.kill()
    engine.start()
    states = {one.name: (one.status, one.attrs["State"]["ExitCode"]) for one in client.containers.list(all=True)}
    assert states == {"long": ("running", 0), "other": ("exited", 137), "ended": ("exited", 7)}
    for container in (long, other, ended):
        container.remove(force=True)
    assert [path.name for path in (small.path / "containers").iterdir()] == []
