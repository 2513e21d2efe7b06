"""Files of containers on a real engine: copying in and out, hostile archives and containers, diff, export, commit."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest
import requests

from copy_support import archive_of, member, up

pytestmark = pytest.mark.root
SECRET = b"this file is the host's"


@pytest.fixture
def container(docker_client: Any) -> Iterator[Callable[..., Any]]:
    """Makes containers that go at the end."""
    made: list[Any] = []

    def make(script: str = "sleep 600", *, start: bool = True, **options: Any) -> Any:
        one = docker_client.containers.create("busybox", ["sh", "-c", script], **options)
        made.append(one)
        if start:
            one.start()
        return one

    yield make
    for one in made:
        with contextlib.suppress(docker.errors.NotFound):
            one.remove(force=True, v=True)


def shell(one: Any, script: str) -> str:
    code, output = one.exec_run(["sh", "-c", script])
    assert code == 0, output
    return str(output.decode())


def members(one: Any, path: str) -> dict[str, tarfile.TarInfo]:
    chunks, _ = one.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        return {info.name: info for info in archive}


def content(one: Any, path: str) -> bytes:
    chunks, _ = one.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        file = archive.extractfile(archive.getmembers()[0])
        assert file is not None
        return file.read()


# -- what paths mean


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/d", {"d", "d/f", "d/link"}),
        ("/d/", {"d", "d/f", "d/link"}),
        ("/d/.", {".", "./f", "./link"}),
        ("/to-d", {"to-d"}),
        ("/to-d/", {"to-d", "to-d/f", "to-d/link"}),
        ("/to-d/.", {".", "./f", "./link"}),
        ("to-d/f", {"f"}),
        ("/d/link", {"link"}),
    ],
)
def test_paths_mean_what_docker_says(container: Any, path: str, names: set[str]) -> None:
    one = container("mkdir /d; echo hi >/d/f; ln -s f /d/link; ln -s /d /to-d; echo up; sleep 600")
    up(one)
    assert set(members(one, path)) == names


def test_a_link_is_described_with_where_it_leads(container: Any) -> None:
    one = container("ln -s ../../../etc/passwd /l; echo up; sleep 600")
    up(one)
    _, stat = one.get_archive("/l")
    assert stat["name"] == "l"
    assert stat["linkTarget"] == "/etc/passwd"
    assert stat["mode"] == 0o777 | 1 << 27
    assert members(one, "/l")["l"].linkname == "../../../etc/passwd"


def test_errors_are_dockers(container: Any) -> None:
    one = container()
    with pytest.raises(docker.errors.NotFound, match="Could not find the file /nosuch in container"):
        one.get_archive("/nosuch")
    with pytest.raises(docker.errors.APIError, match="extraction point is not a directory"):
        one.put_archive("/etc/passwd", archive_of((member("x"), b"")))
    with pytest.raises(docker.errors.APIError, match="file name too long") as caught:
        one.put_archive("a" * 300, archive_of((member("x"), b"")))
    assert caught.value.status_code == 400
    shell(one, "mkdir -p /d/sub; echo >/d/file")
    for name, kind, words in (
        ("d/sub", tarfile.REGTYPE, 'cannot overwrite directory "/d/sub" with non-directory "/"'),
        ("d/file", tarfile.DIRTYPE, 'cannot overwrite non-directory "/d/file" with directory "/"'),
    ):
        url = one.client.api._url("/containers/{0}/archive", one.id)
        answer = one.client.api._put(
            url, params={"path": "/", "noOverwriteDirNonDir": "1"}, data=archive_of((member(name, kind), b""))
        )
        assert (answer.status_code, answer.json()["message"]) == (400, words)
    one.put_archive("/", archive_of((member("d/sub"), b"now a file")))
    assert content(one, "/d/sub") == b"now a file"


# -- in and out


@pytest.mark.parametrize("running", [True, False])
def test_what_goes_in_comes_out_as_it_was(container: Any, running: bool, docker_client: Any) -> None:
    volume = docker_client.volumes.create()
    one = container(start=running, volumes={volume.name: {"bind": "/vol", "mode": "rw"}})
    for place in ("/", "/vol"):
        info = member("dir/file", mode=0o4750, uid=7, gid=8, mtime=1_600_000_000)
        link = member("dir/hard", tarfile.LNKTYPE, linkname="dir/file")
        one.put_archive(
            place, archive_of((member("dir", tarfile.DIRTYPE, mode=0o700), b""), (info, b"data"), (link, b""))
        )
        got = members(one, f"{place}/dir")
        assert (got["dir/file"].mode, got["dir/file"].uid, got["dir/file"].gid) == (0o4750, 7, 8)
        assert got["dir/file"].mtime == 1_600_000_000
        assert got["dir"].mode == 0o700
        assert got["dir/hard"].islnk() and got["dir/hard"].linkname == "dir/file"
    if not running:
        one.start()
    assert shell(one, "cat /dir/file /vol/dir/hard") == "datadata"
    one.remove(force=True)
    volume.remove()


def test_a_running_containers_tmpfs_is_reached(container: Any) -> None:
    one = container(tmpfs={"/scratch": ""})
    one.put_archive("/scratch", archive_of((member("f"), b"x")))
    assert shell(one, "cat /scratch/f") == "x"


def test_everything_belongs_to_the_user_when_asked_for(container: Any) -> None:
    one = container(user="nobody")
    answer = one.client.api._put(
        one.client.api._url("/containers/{0}/archive", one.id), params={"path": "/tmp", "copyUIDGID": "true"},
        data=archive_of((member("f", uid=3, gid=4), b"")),
    )  # fmt: skip
    assert answer.status_code == 200
    assert (members(one, "/tmp/f")["f"].uid, members(one, "/tmp/f")["f"].gid) == (65534, 65534)


def test_read_only_is_read_only(container: Any, docker_client: Any) -> None:
    volume = docker_client.volumes.create()
    one = container(
        start=False, read_only=True,
        volumes={volume.name: {"bind": "/ro", "mode": "ro"}},
    )  # fmt: skip
    for path, words in (
        ("/etc", "container rootfs is marked read-only"),
        ("/ro", "mounted volume is marked read-only"),
    ):
        with pytest.raises(docker.errors.APIError, match=words) as caught:
            one.put_archive(path, archive_of((member("x"), b"")))
        assert caught.value.status_code == 403
    one.remove(force=True)
    volume.remove()


def test_a_read_only_volume_below_the_target_is_named(container: Any, docker_client: Any) -> None:
    volume = docker_client.volumes.create()
    one = container(start=False, volumes={volume.name: {"bind": "/ro", "mode": "ro"}})
    with pytest.raises(docker.errors.APIError, match="cannot unpack 'ro/x': Read-only file system"):
        one.put_archive("/", archive_of((member("ro/x"), b"")))
    one.remove(force=True)
    volume.remove()


def test_a_big_file_streams_and_the_engine_does_not_grow(container: Any, engine: Any) -> None:
    one = container("dd if=/dev/zero of=/big bs=1M count=48 2>/dev/null; echo up; sleep 600")
    up(one)
    before = engine.memory_kib()
    chunks, stat = one.get_archive("/big")
    assert stat["size"] == 48 << 20
    assert sum(map(len, chunks)) >= 48 << 20
    assert engine.memory_kib() - before < 20 << 10


def test_a_client_that_leaves_lets_go_of_the_container(container: Any, engine: Any) -> None:
    one = container("dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; echo up; sleep 600")
    up(one)
    before = engine.descriptors()
    for _ in range(5):
        chunks, _ = one.get_archive("/big", chunk_size=1024)
        next(iter(chunks))
        chunks.close()
    assert content(one, "/etc/passwd")  # the files are free again
    deadline = time.monotonic() + 60
    allowed = before + 2  # the client's own connections; each copy that leaked would add three
    while engine.descriptors() > allowed and time.monotonic() < deadline:
        time.sleep(0.1)
    assert engine.descriptors() <= allowed


# -- hostile archives and containers


@pytest.fixture
def secret(engine: Any) -> Iterator[str]:
    path = "/tmp/cove-secret"
    engine.sh(f'printf "{SECRET.decode()}" >{path}')
    yield path
    assert engine.sh(f"cat {path}; rm {path}").encode() == SECRET


@pytest.mark.parametrize(
    "hostile",
    [
        [(member("../../../../tmp/cove-secret"), b"pwned")],
        [(member("/../tmp/cove-secret"), b"pwned")],
        [(member("l", tarfile.SYMTYPE, linkname="/tmp"), b""), (member("l/cove-secret"), b"pwned")],
        [(member("l", tarfile.SYMTYPE, linkname="../../../../../tmp"), b""), (member("l/cove-secret"), b"pwned")],
        [(member("l", tarfile.SYMTYPE, linkname="/proc/1/root/tmp"), b""), (member("l/cove-secret"), b"pwned")],
        [(member("h", tarfile.LNKTYPE, linkname="../../../../tmp/cove-secret"), b""), (member("h"), b"pwned")],
        [(member("h", tarfile.LNKTYPE, linkname="/tmp/cove-secret"), b""), (member("h"), b"pwned")],
    ],
)
def test_no_archive_writes_outside(container: Any, secret: str, hostile: Any) -> None:
    one = container()
    try:
        one.put_archive("/", archive_of(*hostile))
    except docker.errors.APIError as error:
        assert error.status_code == 400
    assert content(one, "/etc/passwd")  # the secret's fixture looks at the host's file


def test_garbage_is_refused(container: Any) -> None:
    one = container()
    for data in (b"no archive", os.urandom(4096), b"\x1f\x8b" + os.urandom(600)):
        with pytest.raises(docker.errors.APIError) as caught:
            one.put_archive("/", data)
        assert caught.value.status_code == 400


@pytest.mark.parametrize("link", ["/tmp/cove-secret", "/proc/1/root/tmp/cove-secret", "../../../../tmp/cove-secret"])
def test_no_link_in_a_container_leads_out(container: Any, secret: str, link: str) -> None:
    one = container(f"ln -s {link} /l; mkdir /d; ln -s {os.path.dirname(link)} /d/up; echo up; sleep 600")
    up(one)
    for path in ("/l/", "/d/up/cove-secret", "/d/up/."):
        try:
            chunks, _ = one.get_archive(path)
            assert SECRET not in b"".join(chunks)
        except docker.errors.APIError as error:
            assert error.status_code in (404, 500)
    try:
        one.put_archive("/d/up", archive_of((member("cove-secret"), b"pwned")))
    except docker.errors.APIError as error:
        assert error.status_code in (400, 404)


def test_links_swapped_during_a_copy_lead_nowhere(container: Any, secret: str) -> None:
    """CVE-2018-15664: a directory that becomes a link while its path is being walked."""
    script = "mkdir -p /a/tmp; ln -s / /b; echo up; while :; do mv /a /c; mv /b /a; mv /a /b; mv /c /a; done"
    one = container(script)
    up(one)
    data = archive_of((member("cove-secret"), b"pwned"))
    outcomes = set()
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < 5 or (len(outcomes) < 2 and passed < 60):
        for path in ("/a/tmp", "/b/tmp"):
            try:
                one.put_archive(path, data)
                outcomes.add("in")
                chunks, _ = one.get_archive(f"{path}/cove-secret")
                assert SECRET not in b"".join(chunks)
                outcomes.add("out")
            except docker.errors.APIError as error:
                assert error.status_code in (400, 404, 500), error
    assert outcomes == {"in", "out"}  # the race was run, not avoided


def test_nothing_is_imported_while_a_thread_is_in_a_container() -> None:
    """CVE-2019-14271: what is loaded on first use would come from the container."""
    script = """
import os, sys
from coved.runtime import view
from coved.runtime.ids import Ids
pid = os.fork()
if pid == 0:
    from coved.runtime import syscalls
    syscalls.unshare(syscalls.CLONE_NEWNS)
    os.write(1, b"ready\\n")
    import time; time.sleep(30); os._exit(0)
os.read(0, 1)
before = set(sys.modules)
opened = view.of_process(pid, Ids(), upper=None)
new = sorted(set(sys.modules) - before)
opened.close()
os.kill(pid, 9)
print("new", new)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    output, _ = process.communicate("x", timeout=30)
    assert output == "new []\n"


def test_a_fifo_and_endless_files_do_not_block(container: Any) -> None:
    one = container("mkdir /d; mkfifo /d/fifo; ln -s /dev/zero /d/zero; echo up; sleep 600")
    up(one)
    assert members(one, "/d")["d/fifo"].isfifo()
    with pytest.raises(docker.errors.NotFound):
        one.get_archive("/dev/zero")
    with pytest.raises(docker.errors.NotFound):
        one.get_archive("/proc/kmsg")


def test_deep_nesting_is_refused_not_followed(container: Any) -> None:
    one = container("i=0; while [ $i -lt 530 ]; do mkdir d; cd d; i=$((i+1)); done; echo up; sleep 600")
    up(one)
    chunks, _ = one.get_archive("/d")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):  # the stream breaks off: its head has gone out
        b"".join(chunks)
    assert content(one, "/etc/passwd")


def test_two_copies_at_once_take_turns(container: Any, engine: Any) -> None:
    one = container()
    errors: list[BaseException] = []

    def copy(number: int) -> None:
        client = docker.DockerClient(engine.url, timeout=60)
        try:
            client.containers.get(one.id).put_archive("/", archive_of((member(f"f{number}"), b"x" * 100_000)))
        except BaseException as error:
            errors.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert shell(one, "cat /f[0-7] | wc -c").strip() == "800000"


# -- diff, export, commit


def test_diff_tells_what_changed(container: Any) -> None:
    one = container("mkdir -p /new/sub; echo >/new/sub/f; echo x >>/etc/passwd; rm /etc/group; echo up; sleep 600")
    up(one)
    assert {(change["Path"], change["Kind"]) for change in one.diff()} == {
        ("/new", 1), ("/new/sub", 1), ("/new/sub/f", 1), ("/etc", 0), ("/etc/passwd", 0), ("/etc/group", 2),
    }  # fmt: skip


def test_a_container_that_did_nothing_has_no_changes(container: Any) -> None:
    assert container("sleep 600").diff() is None


@pytest.mark.parametrize("running", [True, False])
def test_export_is_the_root_alone(container: Any, docker_client: Any, running: bool) -> None:
    volume = docker_client.volumes.create()
    one = container("echo new >/f; echo v >/vol/v; rm /etc/group; echo up; sleep 600", volumes=[f"{volume.name}:/vol"])
    up(one)
    if not running:
        one.kill()
        one.wait()
    with tarfile.open(fileobj=io.BytesIO(b"".join(one.export()))) as archive:
        names = {info.name for info in archive}
        assert {"f", "vol", "bin/busybox", "proc"} <= names
        assert not {"vol/v", "etc/group", "proc/1", "proc/version"} & names
    one.remove(force=True)
    volume.remove()


def test_commit_makes_an_image_that_runs(container: Any, docker_client: Any) -> None:
    one = container("echo new >/f; rm /etc/group; echo up; sleep 600", environment={"A": "1"}, labels={"k": "v"})
    up(one)
    image = one.commit(
        "committed", "t", message="why", author="me", changes=['CMD ["cat","/f"]', "ENV B=2", "USER nobody"]
    )
    try:
        assert docker_client.containers.run("committed:t", remove=True) == b"new\n"
        assert docker_client.containers.run("committed:t", "ls /etc", remove=True).split() == [
            b"hostname", b"hosts", b"passwd", b"resolv.conf",
        ]  # fmt: skip
        assert image.attrs["Comment"] == "why" and image.attrs["Author"] == "me"
        config = image.attrs["Config"]
        assert config["Cmd"] == ["cat", "/f"] and config["User"] == "nobody" and config["Labels"] == {"k": "v"}
        assert {"A=1", "B=2"} <= set(config["Env"])
        history = image.history()
        assert history[0]["Comment"] == "why" and history[0]["CreatedBy"].startswith("sh -c echo new")
        assert len(image.attrs["RootFS"]["Layers"]) == 2
    finally:
        docker_client.images.remove("committed:t", force=True)


def test_commit_refuses_what_it_cannot_do(container: Any) -> None:
    one = container()
    with pytest.raises(docker.errors.APIError, match="must be lowercase"):
        one.commit("UPPER")
    with pytest.raises(docker.errors.APIError, match="RUN is not a valid change command"):
        one.commit("fine", changes=["RUN x"])
    one.reload()
    assert one.status == "running"


# -- volumes start with what the image has


def test_a_new_volume_starts_with_all_layers_of_the_image(container: Any, docker_client: Any) -> None:
    first = container(
        "mkdir /data; echo a >/data/a; echo b >/data/b; mkdir /data/old; echo >/data/old/x; echo up; sleep 600"
    )
    up(first)
    first.commit("layered", "1")
    second = docker_client.containers.create(
        "layered:1", ["sh", "-c", "rm /data/b; rm -r /data/old; mkdir /data/old; echo c >/data/c; ln -s /data /alias"]
    )
    second.start()
    second.wait()
    second.commit("layered", "2")
    second.remove()
    try:
        for path in ("/data", "/alias"):
            seen = docker_client.containers.run("layered:2", f"find {path}/ -type f", volumes=[path], remove=True)
            assert sorted(seen.split()) == [f"{path}/a".encode(), f"{path}/c".encode()]
    finally:
        for tag in ("2", "1"):
            docker_client.images.remove(f"layered:{tag}", force=True)
