"""The sample programs of tests/e2e/apps, built by docker's own client with its plugins, run, changed, and built again.

Their packages come from the registries that this computer's own pip, npm and apt use; its certificate authorities are in the
image they are built on, as those of a company would be. The web applications are on this computer's engine in both cases:
configuring Python under emulation takes minutes, Debian's npm with its 380 packages a quarter of an hour.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from base_image import NAME, have_base_image

from debian_files import docker_config
from engines import AnyEngine
from life_support import eventually
from uplink import uplink

APPS = Path(__file__).parents[1] / "e2e" / "apps"
BASE = "programs/base"

pytestmark = [pytest.mark.root, pytest.mark.timeout(1500)]


class Docker:
    """docker's client on an engine whose containers reach the registries of packages."""

    def __init__(self, engine: AnyEngine, config: Path) -> None:
        self._engine = engine
        self._environment = {
            **os.environ, "DOCKER_HOST": engine.url, "DOCKER_CONFIG": str(config), "BUILDKIT_PROGRESS": "plain",
            "BASE": BASE, "PORT": "0",
        }  # fmt: skip

    def __call__(self, *words: str | Path, status: int = 0, **environment: str) -> str:
        """What it says on both outputs; it must end with that status."""
        done = subprocess.run(
            ["docker", *words], env=self._environment | environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == status, f"docker {words}: {done.returncode}\n{done.stdout[-5000:]}"
        return done.stdout

    def build(self, tag: str, folder: Path, *options: str, **more: Any) -> str:
        arguments = [f"BASE={BASE}", "PIP_INDEX_URL", "NPM_CONFIG_REGISTRY"]
        return self("build", *(f"--build-arg={one}" for one in arguments), *options, "--tag", tag, folder, **more)

    def get(self, address: str, path: str) -> Any:
        """The JSON that a published port answers."""
        words = ["curl", "--silent", "--show-error", "--fail", "--max-time", "60", f"http://{address}{path}"]
        done = subprocess.run(self._engine.in_network(*words), capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def steps(progress: str) -> dict[str, bool]:
    """The steps that a build in plain progress names, and whether each was found in the cache."""
    found = dict[str, bool]()
    for number, place, words in re.findall(r"^#(\d+) \[(?:\S+ )?(\d+/\d+)\] (.*)$", progress, re.MULTILINE):
        (end,) = re.findall(rf"^#{number} (CACHED|DONE|ERROR)", progress, re.MULTILINE)
        found[f"{place} {words}"] = end == "CACHED"
    assert found, progress
    return found


def only(found: dict[str, bool], *words: str) -> bool:
    """Whether the steps with these words are those that were carried out; FROM never is."""
    done = [step for step, cached in found.items() if not cached]
    return len(done) == len(words) and all(any(word in step for step in done) for word in words)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return docker_config(tmp_path_factory.mktemp("docker") / "config")


@pytest.fixture(scope="module")
def native_docker(native_engine: Any, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    with uplink(native_engine):
        yield from _prepared(Docker(native_engine, config), native_engine.url, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def docker(request: pytest.FixtureRequest, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    if request.config.getoption("--native"):
        yield request.getfixturevalue("native_docker")
    else:
        engine = request.getfixturevalue("engine")
        yield from _prepared(Docker(engine, config), engine.url, tmp_path_factory.mktemp("base"))


def _prepared(docker: Docker, host: str, folder: Path) -> Iterator[Docker]:
    have_base_image(host)
    lines = [f"FROM {NAME}"]
    if authorities := os.environ.get("SSL_CERT_FILE"):
        shutil.copy(authorities, folder / "computer.crt")
        lines.append("COPY computer.crt /usr/local/share/ca-certificates/")
    (folder / "Dockerfile").write_text("\n".join(lines))
    docker("build", "--tag", BASE, folder)
    yield docker
    docker("builder", "prune", "--all", "--force")
    docker("rmi", "--force", BASE, NAME)


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the programs, to change."""
    return lambda name: Path(shutil.copytree(APPS / name, tmp_path / name))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_a_web_application_in_python(native_docker: Docker, program: Callable[[str], Path]) -> None:
    docker, folder = native_docker, program("python-web")
    try:
        docker.build("programs/python", folder)
        assert "cached mount /root/.cache/pip" in docker("buildx", "du", "--verbose")
        assert docker("run", "--rm", "programs/python", "id", "-un") == "web\n"

        change(folder / "app.py", '"hello"', '"good day"')
        again = steps(docker.build("programs/python", folder))
        assert only(again, "COPY app.py"), again

        compose = ("compose", "--project-directory", folder)
        built = steps(docker(*compose, "build"))
        assert only(built), built
        docker(*compose, "up", "--detach", "--wait", "--no-build")  # until it is healthy
        address = docker(*compose, "port", "web", "8000").strip()
        assert docker.get(address, "/?name=you") == {"good day": "you", "user": "web"}
        docker(*compose, "stop")
        ended = docker(*compose, "ps", "--all", "--format", "{{.Name}}").strip()
        assert docker("inspect", "--format", "{{.State.ExitCode}}", ended) == "0\n"
    finally:
        docker("compose", "--project-directory", folder, "down", "--rmi", "all", "--timeout", "1")
        docker("rmi", "--force", "programs/python")


def test_a_web_application_in_node(native_docker: Docker, program: Callable[[str], Path]) -> None:
    docker, folder = native_docker, program("node-web")
    try:
        docker.build("programs/node", folder)
        docker("run", "--detach", "--name", "programs-node", "--publish", "3000", "programs/node")
        eventually(lambda: "listening on port 3000" in docker("logs", "programs-node"))
        answer = docker.get(docker("port", "programs-node", "3000").splitlines()[0], "/?name=you")
        assert (answer["hello"], answer["uid"]) == ("you", 65534)
        docker("stop", "programs-node")
        assert docker("inspect", "--format", "{{.State.ExitCode}}", "programs-node") == "0\n"
        assert "npm" not in docker("run", "--rm", "programs/node", "ls", "/usr/bin", "/usr/share").split()

        change(folder / "server.js", "hello:", "hi:")
        again = steps(docker.build("programs/node", folder))
        assert only(again, "COPY package.json server.js"), again

        # Packages that npm has in its cache mount need no registry; that they are the same is seen by what is in them.
        change(folder / "package.json", '"version": "1.0.0"', '"version": "1.0.1"')
        change(folder / "Dockerfile", "RUN --mount", "RUN --network=none --mount")
        change(folder / "Dockerfile", "npm ci", "npm ci --offline")
        again = steps(docker.build("programs/node", folder))
        assert only(again, "COPY package.json package-lock.json", "npm ci", "COPY package.json server.js"), again
    finally:
        docker("rm", "--force", "programs-node")
        docker("rmi", "--force", "programs/node")


def test_a_static_program_in_c(docker: Docker, program: Callable[[str], Path], tmp_path: Path) -> None:
    folder, root = program("c-program"), tmp_path / "root"
    try:
        docker.build("programs/c", folder)
        assert docker("run", "--rm", "programs/c", "20").split() == ["2", "3", "5", "7", "11", "13", "17", "19"]
        assert "usage" in docker("run", "--rm", "programs/c", "many", status=2)
        docker("build", "--build-arg", f"BASE={BASE}", "--output", f"type=local,dest={root}", folder)
        assert os.listdir(root) == ["primes"]
        first = docker("inspect", "--format", "{{.RootFS.Layers}}", "programs/c")
        assert first.count("sha256:") == 1

        # The classic builder's clients are served from the same cache.
        told = docker.build("programs/c", folder, DOCKER_BUILDKIT="0")
        assert told.count("---> Using cache") == 5, told
        assert docker("inspect", "--format", "{{.RootFS.Layers}}", "programs/c") == first

        change(folder / "primes.c", "composite[n])", "composite[n]")
        told = docker.build("programs/c", folder, status=1)
        assert re.search(r"^#\d+ [0-9.]+ primes.c:\d+:\d+: error: expected", told, re.MULTILINE), told
        assert re.search(r'process "/bin/sh -c gcc .*" did not complete successfully: exit code: 1', told), told
        again = steps(told)
        assert only(again, "COPY primes.c", "RUN gcc"), again
    finally:
        docker("rmi", "--force", "programs/c")
