"""What the engine says of itself, to the Docker SDK and the docker command."""

import os
import subprocess
from typing import Any

import docker
import pytest

pytestmark = pytest.mark.root


def run(engine: Any, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DOCKER_HOST": engine.url}
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60, env=environment)


def test_version(engine: Any, docker_client: Any) -> None:
    version = docker_client.version()
    assert version["Platform"]["Name"] == "Cove"
    assert (version["ApiVersion"], version["MinAPIVersion"]) == ("1.51", "1.24")
    assert (version["Os"], version["KernelVersion"]) == ("linux", engine.sh("uname -r").strip())
    assert version["Components"][0]["Name"] == "Engine"


@pytest.mark.parametrize("version", ["1.24", "1.41", "1.51", "auto"])
def test_every_negotiated_version_is_answered(engine: Any, version: str) -> None:
    client = docker.DockerClient(base_url=engine.url, version=version)
    assert client.ping()
    assert client.info()["OSType"] == "linux"
    client.close()


def test_info_has_real_figures(engine: Any, docker_client: Any) -> None:
    info = docker_client.info()
    processors, kibibytes = engine.sh("nproc; awk '/^MemTotal:/ {print $2}' /proc/meminfo").split()
    assert info["NCPU"] == int(processors)
    assert info["MemTotal"] == int(kibibytes) * 1024
    assert info["Images"] == len(docker_client.images.list(all=True))
    assert info["DockerRootDir"] == str(engine.root)
    assert info["Containers"] == info["ContainersRunning"] + info["ContainersPaused"] + info["ContainersStopped"]
    assert info["Swarm"]["LocalNodeState"] == "inactive"
    assert info["ID"] == docker_client.info()["ID"]


def test_the_docker_command_prints_all_of_it(engine: Any) -> None:
    version = run(engine, "version")
    assert version.returncode == 0 and "Server: Cove" in version.stdout
    info = run(engine, "info")
    assert info.returncode == 0
    for line in ("Storage Driver: overlay2", "Cgroup Version: 2", "Swarm: inactive", "Profile: builtin"):
        assert line in info.stdout
    usage = run(engine, "system", "df")
    assert usage.returncode == 0 and "Local Volumes" in usage.stdout
    assert run(engine, "system", "df", "-v").returncode == 0


def test_events_end_at_until(engine: Any, docker_client: Any) -> None:
    result = run(engine, "events", "--since", "1h", "--until", "0s")
    assert result.returncode == 0
    assert list(docker_client.events(since=1, until=2)) == []


def test_docker_info_has_no_line_without_a_value(engine: Any) -> None:
    lines = run(engine, "info").stdout.splitlines()
    assert " runc version: N/A" in lines and " Init Binary: docker-init" in lines
    assert [line for line in lines if line.endswith(": ")] == []


def test_an_engine_of_the_same_version_copies_no_database(engine_with: Any) -> None:
    with engine_with() as engine:
        for _ in range(2):  # the first makes what an engine has at its start, and nothing was pulled or built
            engine.kill()
            engine.start()
        assert "there is a copy of the database" not in engine.log()
