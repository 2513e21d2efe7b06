"""--runtime crun: the same shim, stdio, log, limits and ends, around another OCI runtime's containers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from isolation_support import Make, making, output, refusal, shim_of
from life_support import eventually

pytestmark = pytest.mark.root


@pytest.fixture
def crun(docker_client: Any) -> Iterator[Make]:
    with making(docker_client) as create:
        yield lambda *words, **options: create(*words, runtime="crun", **options)


def run(engine: Any, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "DOCKER_HOST": engine.url}
    line = ["docker", "run", "--rm", "--runtime", "crun", *words]
    return subprocess.run(line, input=data, capture_output=True, timeout=60, env=environment)


def test_info_lists_what_there_is(docker_client: Any) -> None:
    info = docker_client.info()
    assert info["DefaultRuntime"] in info["Runtimes"]
    assert Path(info["Runtimes"]["crun"]["path"]).name == "crun"


def test_a_runtime_that_there_is_not(docker_client: Any) -> None:
    assert refusal(docker_client, {"Runtime": "nosuch"}) == (400, "unknown or invalid runtime name: nosuch")


def test_it_is_crun_that_made_the_container(engine: Any, crun: Make) -> None:
    container = crun("sh", "-c", "exec sleep 300")
    shim = shim_of(engine, container)
    assert engine.read(f"/proc/{shim}/comm").startswith("shim:")
    assert container.attrs["HostConfig"]["Runtime"] == "crun"
    # crun puts the runtime spec's version of its own there; this runtime's config is the bundle's.
    config = engine.read(f"/proc/{shim}/root{engine.state}/shims/{container.id}/bundle/config.json")
    assert '"ociVersion": "1.0.2"' in config


def test_output_input_and_status(engine: Any) -> None:
    done = run(engine, "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
    data = os.urandom(1 << 18)
    done = run(engine, "-i", "busybox", "cat", data=data)
    assert (done.returncode, done.stdout) == (0, data)


@pytest.mark.parametrize(("words", "status"), [(["nosuch"], 127), (["/no/such"], 127), (["/etc/passwd"], 126)])
def test_what_cannot_be_run(engine: Any, words: list[str], status: int) -> None:
    done = run(engine, "busybox", *words)
    if (
        b"not executable: Operation not permitted" in done.stderr
    ):  # so says crun since 1.9, and docker's client makes of it:
        status = 125
    assert done.returncode == status
    assert b"OCI runtime create failed: crun: " in done.stderr
    assert b"runc" not in done.stderr


def test_terminals_and_their_size(crun: Make) -> None:
    container = crun("sh", "-c", "tty; stty size; sleep 300", tty=True)
    container.client.api.resize(container.id, height=33, width=99)
    code, text = container.exec_run(["sh", "-c", "tty; test -t 0 && echo yes"], tty=True)
    assert (code, text.split()) == (0, [b"/dev/pts/1", b"yes"])
    assert container.logs().split()[0] == b"/dev/pts/0"


def test_execs_have_their_own_status_user_and_streams(crun: Make) -> None:
    container = crun(environment={"FROM": "container"})
    code, streams = container.exec_run(["sh", "-c", "echo $FROM; id -u >&2; exit 5"], demux=True, user="nobody")
    assert (code, streams) == (5, (b"container\n", b"65534\n"))
    code, text = container.exec_run(["nosuch"])
    assert code == 126 and b"crun: executable file `nosuch` not found" in text  # as with any other runtime
    assert container.exec_run(["true"]).exit_code == 0


def test_signals_and_ends(crun: Make) -> None:
    container = crun("sh", "-c", "trap 'echo got; exit 4' TERM; echo ready; while :; do sleep 0.05; done")
    for line in container.logs(stream=True, follow=True):
        assert line == b"ready\n"
        break
    container.stop(timeout=20)
    assert container.wait(timeout=30)["StatusCode"] == 4
    container.start()
    container.kill()
    assert container.wait(timeout=30)["StatusCode"] == 137
    assert container.logs().count(b"ready") == 2


def test_pause(crun: Make) -> None:
    container = crun()
    container.pause()
    container.reload()
    assert container.status == "paused"
    container.unpause()
    assert container.exec_run(["true"]).exit_code == 0


def test_what_a_container_is_made_of_is_the_same(engine: Any, crun: Make, make: Make) -> None:
    script = (
        "exec 2>&1;"
        "id; hostname; cat /proc/sys/kernel/domainname; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; umask; pwd; echo $HOME;"
        "cat /proc/self/oom_score_adj; cat /proc/self/cgroup | tail -1; cat /proc/sys/net/ipv4/ip_unprivileged_port_start;"
        "grep 'open files' /proc/self/limits; ls -l /dev | grep -v kcore | awk '{print $1,$3,$4,$NF}'; cat /proc/keys | wc -c;"
        "ls /sys/firmware;"
        "mknod /disk b 254 0; head -c 1 /disk; touch /sys/x; cat /run/x;"
        " grep ' /run ' /proc/mounts; ls /proc/self/fd | wc -l"
    )
    options = {
        "hostname": "h", "domainname": "example.org", "user": "nobody:root", "group_add": ["7"], "cap_add": ["SYS_TIME"],
        "cap_drop": ["CHOWN"], "security_opt": ["no-new-privileges"], "working_dir": "/made", "oom_score_adj": 7,
        "ulimits": [docker.types.Ulimit(name="nofile", soft=77, hard=99)], "tmpfs": {"/run": "size=64k,mode=700"},
        "devices": ["/dev/zero:/dev/given:r"],
    }  # fmt: skip
    theirs, ours = (create("sh", "-c", script, **options) for create in (crun, make))
    for container in (theirs, ours):
        container.wait(timeout=30)
    assert theirs.logs().decode().splitlines() == ours.logs().decode().splitlines()
    # crun gives a container's standard files to its user: the machine's own null device must not be among them.
    assert engine.sh("stat -c %u /dev/null") == "0\n"


def test_namespaces_are_joined(crun: Make, make: Make) -> None:
    donor = make("sleep", "4711", ipc_mode="shareable")
    donor.exec_run(["sh", "-c", "echo shared > /dev/shm/note"])
    mode = f"container:{donor.name}"
    text = output(crun("sh", "-c", "ps -o args; cat /dev/shm/note", pid_mode=mode, ipc_mode=mode, network_mode=mode))
    assert "sleep 4711" in text and "shared" in text
    theirs = crun(ipc_mode="shareable")
    theirs.exec_run(["sh", "-c", "echo of crun > /dev/shm/note"])
    assert output(make("cat", "/dev/shm/note", ipc_mode=f"container:{theirs.name}")) == "of crun\n"


def test_it_outlives_the_engine_and_leaves_nothing(engine: Any, crun: Make) -> None:
    container = crun()
    engine.kill()
    engine.start()
    assert container.exec_run(["echo", "there"]).output == b"there\n"
    assert container.id in engine.names(engine.state / "shims")
    container.remove(force=True)
    eventually(lambda: container.id not in engine.names(engine.state / "shims"))
    assert container.id not in engine.names("/run/crun")


def test_remapped_users(engine_with: Any) -> None:
    """On this computer in any case: the VM's engine has no such option."""
    with engine_with("--userns-remap", "default") as engine:
        client = docker.DockerClient(engine.url, timeout=60)
        with making(client) as create:
            container = create("sh", "-c", "id -u; touch /x /data/y; stat -c %u /x /data/y /etc/hosts; sleep 300",
                               runtime="crun", volumes=["owned:/data"])  # fmt: skip
            container.reload()
            assert os.stat(f"/proc/{container.attrs['State']['Pid']}").st_uid == 100_000
            assert container.exec_run(["id", "-u"]).output == b"0\n"
            eventually(lambda: container.logs().count(b"\n") == 4)
            assert container.logs().split() == [b"0"] * 4
        client.close()
