"""Attacks on ``docker cp``: a container that swaps files while they are made or read, and archives that mean harm.

Each of these fails when its guard is taken away: what the swap is to hit is the machine's, and is looked at afterwards.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import socket
import stat
import subprocess
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from coved.files.unpack import Unpacker
from coved.images.tar import BadArchive, TarReader
from coved.runtime import syscalls, view
from coved.runtime.ids import Ids

from copy_support import archive_of, member, up

pytestmark = pytest.mark.root
RACE_S = 6.0


@pytest.fixture
def container(docker_client: Any) -> Iterator[Callable[..., Any]]:
    """Makes running containers that go at the end."""
    with running(docker_client) as make:
        yield make


@pytest.fixture
def native(native_engine: Any) -> Iterator[Callable[..., Any]]:
    """The same on this computer, for tests that call the views of a container's files directly."""
    client = docker.DockerClient(native_engine.url, timeout=60)
    with running(client) as make:
        yield make
    client.close()


@contextlib.contextmanager
def running(client: Any) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(script: str = "sleep 600", **options: Any) -> Any:
        one = client.containers.run("busybox", ["sh", "-c", script], detach=True, **options)
        made.append(one)
        return one

    yield make
    for one in made:
        with contextlib.suppress(docker.errors.NotFound):
            one.remove(force=True, v=True)


# -- a name that means something else by now


def test_a_link_in_a_new_fifos_place_changes_no_file_of_the_machines(container: Any, engine: Any) -> None:
    """chmod(2) follows links, and an absolute one leads from the root of the thread that calls it: the machine's."""
    target = f"/tmp/cove-mode-{uuid.uuid4().hex}"
    engine.sh(f"umask 077; : >{target}")
    one = up(container(f"mkdir /w; cd /w; echo up; while :; do ln -sf {target} f; done"))
    data = archive_of(*((member("f", tarfile.FIFOTYPE, mode=0o4777), b"") for _ in range(500)))
    tried = 0
    try:
        deadline = time.monotonic() + RACE_S
        while time.monotonic() < deadline:
            tried += 1
            with contextlib.suppress(docker.errors.APIError):
                one.put_archive("/w", data)
            assert engine.sh(f"stat -c %a {target}") == "600\n"
    finally:
        engine.sh(f"rm {target}")
    assert tried


def test_no_device_node_of_a_container_is_ever_opened(native: Any) -> None:
    """Containers may make nodes, and opening one may do something: /dev/watchdog starts to count. The device cgroup, which
    keeps a container from that, is not the engine's."""
    one = native("mkdir /n /v/n; mknod /n/null c 1 3; mknod /v/n/null c 1 3; mknod /t/null c 1 3; echo up; sleep 600",
                    volumes=["/v"], tmpfs={"/t": "dev"})  # fmt: skip
    data = up(one).client.api.inspect_container(one.id)
    opened = view.of_process(data["State"]["Pid"], Ids(), upper=Path(data["GraphDriver"]["Data"]["UpperDir"]))
    try:
        for path in ("n/null", "v/n/null", "t/null"):
            assert stat.S_ISCHR(os.stat(path, dir_fd=opened.root).st_mode)
            with pytest.raises(PermissionError):
                os.close(os.open(path, os.O_RDONLY, dir_fd=opened.root))
    finally:
        opened.close()


def test_no_device_node_of_a_stopped_container_is_ever_opened(native: Any) -> None:
    one = native("mkdir /n; mknod /n/null c 1 3; mknod /v/null c 1 3", volumes=["/v"])
    one.wait()
    data = one.client.api.inspect_container(one.id)
    graph = data["GraphDriver"]["Data"]
    options = [f"upperdir={graph['UpperDir']}", f"workdir={graph['WorkDir']}"]
    lower = one.client.api.inspect_image("busybox")["GraphDriver"]["Data"]["UpperDir"]
    overlay: Any = {
        "destination": "/",
        "type": "overlay",
        "source": "overlay",
        "options": [f"lowerdir={lower}", *options],
    }
    volume: Any = {"destination": "/v", "type": "bind", "source": data["Mounts"][0]["Source"], "options": ["rbind"]}
    base = view.of_layers(overlay, Path(graph["UpperDir"]).parent / "view")
    opened = view.with_mounts(base, [volume])
    base.close()
    try:
        for path in ("n/null", "v/null"):
            with pytest.raises(PermissionError):
                os.close(os.open(path, os.O_RDONLY, dir_fd=opened.root))
    finally:
        opened.close()


def test_only_the_container_is_looked_into_whoever_has_its_number(native: Any) -> None:
    """Between the end of a container and the engine's hearing of it, another process may have got its number."""
    with pytest.raises(ProcessLookupError):
        view.of_process(os.getpid(), Ids(), upper=Path("/nowhere/upper"))
    one = up(native("echo up; sleep 600"))
    data = one.client.api.inspect_container(one.id)
    view.of_process(data["State"]["Pid"], Ids(), upper=Path(data["GraphDriver"]["Data"]["UpperDir"])).close()


# -- what holds up others


def test_a_look_up_that_waits_holds_up_nobody_else(tmp_path: Path) -> None:
    """A file system may be a process's (FUSE), and that process may not answer; the engine's other threads must go on."""
    os.mkfifo(tmp_path / "fifo")
    folder = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    opened: list[int] = []
    thread = threading.Thread(
        target=lambda: opened.append(syscalls.openat2(folder, "fifo", os.O_RDONLY, 0)), daemon=True
    )
    # Were the interpreter held up, not even a time limit of pytest's could end this: so another process does.
    rescue = subprocess.Popen(["sh", "-c", f"exec 2>/dev/null; sleep 60; : >{tmp_path}/fifo"])
    started = time.monotonic()
    thread.start()
    time.sleep(0.2)
    os.close(os.open(tmp_path / "fifo", os.O_WRONLY))
    thread.join(60)
    assert time.monotonic() - started < 50
    rescue.kill()
    rescue.wait()
    os.close(folder)
    os.close(opened[0])


def test_uploads_that_wait_for_their_clients_hold_up_no_other_container(container: Any, engine: Any) -> None:
    """`producer | docker cp - name:/` may take its time, and several may."""
    waiting = []
    for _ in range(6):
        one = container()
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(engine.socket))
        head = f"PUT /containers/{one.id}/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\n"
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"3\r\nabc\r\n")
        waiting.append(client)
    try:
        time.sleep(0.5)
        other = docker.DockerClient(engine.url, timeout=30)
        one = container()
        chunks, _ = other.containers.get(one.id).get_archive("/etc/passwd")
        assert b"root" in b"".join(chunks)
        assert other.containers.get(one.id).diff() is None
    finally:
        for client in waiting:
            client.close()


class SwappingSource:
    """An archive whose reader is interrupted by a swap once ``after`` bytes have been read."""

    def __init__(self, data: bytes, after: int, swap: Callable[[], None]) -> None:
        self._file = io.BytesIO(data)
        self._after = after
        self._swap: Callable[[], None] | None = swap

    def read(self, size: int) -> bytes:
        if self._swap is not None and self._file.tell() >= self._after:
            swap, self._swap = self._swap, None
            swap()
        return self._file.read(size)


@pytest.mark.parametrize("filled", [False, True])
def test_a_directory_of_the_archives_must_stay_that_one(tmp_path: Path, filled: bool) -> None:
    """A process of the container without rights moves it away, before it is filled or before it gets its mode, and puts a
    link in its place: no file of root's may be written where that leads, and no mode changed."""
    root = tmp_path / "root"
    for path in (root / "work", root / "private"):
        path.mkdir(parents=True)
    (root / "private").chmod(0o700)

    def swap() -> None:
        (root / "work/d").rename(root / "work/moved")
        (root / "work/d").symlink_to("/private")

    data = archive_of((member("d", tarfile.DIRTYPE, mode=0o777), b""), (member("d/f"), b""))
    source = SwappingSource(data, 2 * tarfile.BLOCKSIZE if filled else tarfile.BLOCKSIZE, swap)
    opened = view.View(os.open(root, os.O_PATH), os.open("/proc/self/ns/mnt", os.O_RDONLY), str(root), Ids())
    try:
        unpacker = Unpacker(opened.root, opened.ids, "/work", keep_kinds=False, owner=None)
        if filled:
            unpacker.extract(TarReader(source))
        else:
            with pytest.raises(BadArchive, match="was replaced while it was being filled"):
                unpacker.extract(TarReader(source))
    finally:
        opened.close()
    assert [*(root / "private").iterdir()] == []
    assert (root / "private").stat().st_mode & 0o7777 == 0o700


def test_a_link_that_was_there_is_followed_inside(container: Any) -> None:
    one = up(container("mkdir /d; ln -s /d /w; echo up; sleep 600"))
    one.put_archive("/", archive_of((member("w/f"), b"through")))
    assert one.exec_run("cat /d/f").output == b"through"


# -- names, and words


@pytest.mark.parametrize(
    ("hostile", "words"),
    [
        (member("../x"), '"../x" is outside of "/d"'),
        (member("a/../../x"), '"../x" is outside of "/d"'),
        (member("h", tarfile.LNKTYPE, linkname="../etc/passwd"), 'invalid hardlink "/d/h" -> "../etc/passwd"'),
    ],
)
def test_names_that_lead_out_are_refused_in_dockers_words(container: Any, hostile: Any, words: str) -> None:
    one = up(container("mkdir /d; echo up; sleep 600"))
    with pytest.raises(docker.errors.APIError) as caught:
        one.put_archive("/d", archive_of((hostile, b"")))
    assert (caught.value.status_code, caught.value.explanation) == (400, words)
    assert one.exec_run("ls /d").output == b""


def test_names_are_cleaned_as_docker_cleans_them(container: Any) -> None:
    one = up(container("mkdir /d; echo up; sleep 600"))
    one.put_archive("/d", archive_of((member("/absolute"), b"1"), (member("./a/../b"), b"2"), (member("/../c"), b"3")))
    assert one.exec_run(["sh", "-c", "cd /d; cat absolute b c; ls"]).output.split() == [b"123absolute", b"b", b"c"]


def test_a_description_has_gos_time_and_tells_no_event(container: Any, engine: Any, docker_client: Any) -> None:
    one = up(container("touch -d @1700000000 /t; echo up; sleep 600"))
    since = int(engine.now())
    url = one.client.api._url("/containers/{0}/archive", one.id)
    answer = one.client.api.head(url, params={"path": "/t"})
    described = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
    assert described == {"name": "t", "size": 0, "mode": 0o644, "mtime": "2023-11-14T22:13:20Z", "linkTarget": ""}
    one.get_archive("/t")
    events = docker_client.events(since=since, until=int(engine.now()) + 1, decode=True, filters={"container": one.id})
    assert [event["Action"] for event in events].count("archive-path") == 1


# -- numbers that no kernel has


def numbered(major: int, minor: int) -> bytes:
    """A character device in GNU tar's way of writing numbers that octal digits do not hold."""
    info = member("node", tarfile.CHRTYPE)
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    for place, number in ((329, major), (337, minor)):
        block[place : place + 8] = b"\x80" + number.to_bytes(7, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


@pytest.mark.parametrize(
    "numbers", [(1 << 12, 3), (1, 1 << 20), (1 << 31, 3), (1 << 32, 3), (1, 1 << 40), (1 << 54, 1 << 54)]
)
@pytest.mark.parametrize("runs", [True, False])
def test_a_device_of_impossible_numbers_is_the_archives_fault(
    container: Any, numbers: tuple[int, int], runs: bool
) -> None:
    one = container()
    if not runs:
        one.stop(timeout=0)
    with pytest.raises(docker.errors.APIError) as caught:
        one.put_archive("/tmp", numbered(*numbers))
    assert caught.value.status_code == 400
    assert caught.value.explanation.startswith("cannot unpack 'node': ")
    assert one.put_archive("/tmp", numbered(1, 3))
