"""Containers through the engine's socket, with the Docker SDK and docker's own client."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import docker
import pytest

from copy_support import archive_of, member
from life_support import ask

pytestmark = pytest.mark.root


def run(engine: Any, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "DOCKER_HOST": engine.url}
    # SIGKILL: docker run passes SIGTERM on to the container and waits.
    return subprocess.run(["docker", *words], input=data, capture_output=True, timeout=60, env=environment)


def test_run_gives_output_and_status(engine: Any) -> None:
    done = run(engine, "run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


def test_stdin_ends_at_the_clients_end(engine: Any) -> None:
    data = os.urandom(1 << 20)
    done = run(engine, "run", "-i", "--rm", "busybox", "cat", data=data)
    assert (done.returncode, done.stdout) == (0, data)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no program\n", "exec format error"),
        (b"\x7fELF of another kind", "exec format error"),
        (b"#!/nosuch/interpreter\n", "no such file or directory"),
    ],
)
def test_what_the_kernel_does_not_execute_ends_with_its_words(
    docker_client: Any, make: Any, content: bytes, words: str
) -> None:
    """As with dockerd 26.1, of containers and of execs."""
    archive = archive_of((member("bad", mode=0o755), content))
    container = make("/bad", start=False)
    container.put_archive("/", archive)
    container.start()
    assert container.wait(timeout=30)["StatusCode"] == 1
    assert container.logs() == f"exec /bad: {words}\n".encode()
    other = make()
    other.put_archive("/", archive)
    assert other.exec_run(["/bad"]) == (1, f"exec /bad: {words}\n".encode())


@pytest.mark.parametrize(("words", "status"), [(["nosuch"], 127), (["/etc"], 126)])
def test_what_cannot_be_run_has_dockers_status(engine: Any, words: list[str], status: int) -> None:
    assert run(engine, "run", "--rm", "busybox", *words).returncode == status


def test_a_containers_size_is_that_of_the_files_it_has_written(engine: Any, docker_client: Any, make: Any) -> None:
    written, untouched = make("sh", "-c", "echo -n words >/file"), make("sleep", "300")
    written.wait(timeout=30)
    shown = {one["Id"]: one.get("SizeRw", 0) for one in docker_client.api.containers(all=True, size=True)}
    assert (shown[written.id], shown[untouched.id]) == (5, 0)
    assert f"{untouched.short_id} 0B" in run(engine, "ps", "-s", "--format", "{{.ID}} {{.Size}}").stdout.decode()


def test_auto_remove_leaves_nothing(engine: Any, docker_client: Any, name: str) -> None:
    run(engine, "run", "--rm", "--name", name, "busybox", "true")
    assert docker_client.containers.list(all=True, filters={"name": name}) == []


def test_a_failed_start_tells_those_who_wait(engine: Any, docker_client: Any, name: str) -> None:
    done = run(engine, "run", "--rm", "--name", name, "--mount", "type=bind,src=/no/such,dst=/x", "busybox", "true")
    assert done.returncode == 125
    assert b"bind source path does not exist: /no/such" in done.stderr


def test_names_are_unique(docker_client: Any, name: str) -> None:
    docker_client.containers.create("busybox", name=name)
    with pytest.raises(docker.errors.APIError, match="is already in use by container") as error:
        docker_client.containers.create("busybox", name=name)
    assert error.value.status_code == 409


def test_logs_tail_follow_and_timestamps(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.run(
        "busybox", ["sh", "-c", "seq 1 100; sleep 0.3; echo end"], name=name, detach=True
    )
    assert b"".join(container.logs(stream=True, follow=True)).split() == [*(b"%d" % n for n in range(1, 101)), b"end"]
    assert container.logs(tail=2) == b"100\nend\n"
    assert container.logs(tail=0) == b""
    stamp, _, text = container.logs(tail=1, timestamps=True).partition(b" ")
    assert text == b"end\n"
    assert stamp.endswith(b"Z")
    assert container.logs(since=engine.now() + 5) == b""


def test_exec_has_its_own_status_streams_and_environment(docker_client: Any, name: str) -> None:
    container = docker_client.containers.run("busybox", "sleep 100", name=name, detach=True)
    status, (out, err) = container.exec_run(
        ["sh", "-c", "echo $A; echo e >&2; exit 4"], environment={"A": "b"}, demux=True
    )
    assert (status, out, err) == (4, b"b\n", b"e\n")
    assert container.exec_run(["nosuch"]).exit_code == 126  # dockerd's for any exec that cannot be started
    assert container.exec_run("id -u", user="nobody").output == b"65534\n"


def test_stop_takes_the_stop_signal_and_then_kills(docker_client: Any, name: str) -> None:
    container = docker_client.containers.run(
        "busybox", ["sh", "-c", "trap 'exit 7' TERM; echo; while :; do sleep 0.1; done"], name=name, detach=True
    )
    next(container.logs(stream=True))  # before it has its trap, init is not reached by the signal
    container.stop(timeout=10)
    assert container.wait()["StatusCode"] == 7
    container.start()
    container.kill()
    assert container.wait()["StatusCode"] == 137


def test_ports_answer_when_start_returns_and_are_free_after_stop(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.run(
        "busybox", ["sh", "-c", "echo hi > /index.html; httpd -p 80 -h /; exec sleep 100"], name=name, detach=True,
        ports={"80/tcp": ("127.0.0.1", 18080)},
    )  # fmt: skip
    fetched = subprocess.run(
        engine.in_network("curl", "-s", "--retry", "20", "--retry-all-errors", "--retry-delay", "0", "http://127.0.0.1:18080/"),
        capture_output=True, timeout=30,
    )  # fmt: skip
    assert fetched.stdout == b"hi\n"
    with pytest.raises(docker.errors.APIError, match=r"Bind for 127.0.0.1:18080 failed: port is already allocated"):
        docker_client.containers.run("busybox", "true", remove=True, ports={"80/tcp": ("127.0.0.1", 18080)})
    container.remove(force=True)
    docker_client.containers.run("busybox", "true", remove=True, ports={"80/tcp": ("127.0.0.1", 18080)})


def test_containers_outlive_the_engine(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.run(
        "busybox",
        ["sh", "-c", "echo before; while [ ! -e /go ]; do sleep 0.1; done; echo after; exit 9"],
        name=name,
        detach=True,
    )
    engine.kill()
    engine.start()
    container.reload()
    assert container.status == "running"
    assert container.exec_run("touch /go").exit_code == 0
    assert container.wait(timeout=20)["StatusCode"] == 9
    assert container.logs() == b"before\nafter\n"


def test_volumes_start_with_the_images_files_and_keep_what_is_written(docker_client: Any, name: str) -> None:
    volume = docker_client.volumes.create(name)
    try:
        first = docker_client.containers.run("busybox", "ls /etc", remove=True, volumes={name: {"bind": "/etc"}})
        assert b"passwd" in first
        docker_client.containers.run("busybox", "touch /data/kept", remove=True, volumes={name: {"bind": "/data"}})
        assert b"kept" in docker_client.containers.run(
            "busybox", "ls /data", remove=True, volumes={name: {"bind": "/data"}}
        )
    finally:
        volume.remove()


def test_a_restart_policy_restarts(engine: Any, docker_client: Any, name: str) -> None:
    container = docker_client.containers.run(
        "busybox",
        ["sh", "-c", "exit 1"],
        name=name,
        detach=True,
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
    )
    ends = 0
    window = {"since": int(engine.now()) - 5, "until": int(engine.now()) + 20}
    for _ in docker_client.events(decode=True, filters={"container": container.id, "event": "die"}, **window):
        ends += 1
        if ends == 3:
            break
    assert ends == 3
    container.wait(timeout=10)
    container.reload()
    assert container.attrs["RestartCount"] == 2


def test_an_exec_does_not_make_its_working_directory(docker_client: Any, make: Any) -> None:
    container = make("sleep", "300")
    exit_code, output = container.exec_run(["pwd"], workdir="/nope")
    assert exit_code == 126
    assert output.decode().strip() == (
        "OCI runtime exec failed: exec failed: unable to start container process: "
        'chdir to cwd ("/nope") set in config.json failed: no such file or directory: unknown'
    )
    assert container.exec_run(["ls", "-d", "/nope"]).exit_code == 1
    assert container.exec_run(["pwd"], workdir="/tmp").output == b"/tmp\n"


def test_a_working_directory_that_is_a_file(engine: Any, docker_client: Any, make: Any) -> None:
    container = make("pwd", working_dir="/etc/passwd/", start=False)
    status, answer = ask(engine, "POST", f"/containers/{container.id}/start")
    assert (status, answer["message"]) == (500, "Cannot mkdir: /etc/passwd is not a directory")
    below = make("pwd", working_dir="/etc/passwd/x", start=False)
    status, answer = ask(engine, "POST", f"/containers/{below.id}/start")
    assert status == 500
    assert 'chdir to cwd ("/etc/passwd/x") set in config.json failed: not a directory' in answer["message"]
    running = make("sleep", "300")
    exit_code, output = running.exec_run(["pwd"], workdir="/etc/passwd")
    assert exit_code == 126
    assert 'chdir to cwd ("/etc/passwd") set in config.json failed: not a directory' in output.decode()
