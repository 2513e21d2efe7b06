"""Images for other processors run in the VM, whose kernel has an interpreter for each (docs/decisions/0037).

This computer's kernel need not have any: these are tests of the VM alone. What runs there is small, for it is emulated twice.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from debian_files import busybox_of, docker_config
from foreign_programs import PROCESSORS, program, root

pytestmark = pytest.mark.root

BOUND_S = 170
APPLETS = ("cat", "echo", "id", "ls", "readlink", "sh", "sleep", "uname")
Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(vm_engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """docker's client; what it says on both outputs."""
    given = {name: value for name, value in os.environ.items() if name != "DOCKER_BUILDKIT"}
    config = docker_config(tmp_path_factory.mktemp("docker") / "config")
    environment = {
        **given, "DOCKER_HOST": vm_engine.url, "DOCKER_CONFIG": str(config), "BUILDKIT_PROGRESS": "plain",
        "DOCKER_CLI_HINTS": "false",
    }  # fmt: skip

    def call(
        *words: str, status: int = 0, data: bytes = b"", program: tuple[str, ...] = ("docker",), **more: str
    ) -> str:
        done = subprocess.run(
            [*program, *words], input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=BOUND_S,
            env={**environment, **more},
        )  # fmt: skip
        said = done.stdout.decode()
        assert done.returncode == status, said
        return said

    return call


@pytest.fixture(scope="module")
def foreign(run: Run) -> Iterator[str]:
    """An image with a tag for each processor: /euid tells its effective user, /root/euid has root's rights; arm64's has busybox."""
    name = "test/foreign"
    for platform, processor in PROCESSORS.items():
        files = {"euid": (0o755, program(processor)), "root-euid": (0o4755, program(processor))}
        links = {}
        if platform == "linux/arm64":
            files["bin/busybox"] = (0o755, busybox_of("arm64").read_bytes())
            links = {f"bin/{each}": "busybox" for each in APPLETS}
        tag = platform.removeprefix("linux/").replace("/", "")
        run("import", "--platform", platform, "-c", "ENV PATH=/bin", "-", f"{name}:{tag}", data=root(files, links))
    yield name
    made = run("images", "-q", name).split()
    run("rmi", "-f", *made)


@pytest.mark.parametrize("platform", [each for each in PROCESSORS if PROCESSORS[each].euid])
def test_a_program_runs_as_who_it_should(run: Run, foreign: str, platform: str) -> None:
    """Set-user-ID has its effect, and none without new privileges: the interpreter changes nothing of it."""
    image = f"{foreign}:{platform.removeprefix('linux/').replace('/', '')}"
    words = ("run", "--rm", "--user", "77", "--platform", platform)
    assert run(*words, image, "/euid", status=77) == ""
    assert run(*words, image, "/root-euid") == ""
    assert run(*words, "--security-opt", "no-new-privileges", image, "/root-euid", status=77) == ""


def test_a_container_is_of_its_platform(run: Run, foreign: str, name: str) -> None:
    script = 'uname -m; readlink /proc/self/exe; echo "$0 $1"; echo >/ready; exec sleep 300'
    started = run("run", "-d", "--name", name, f"{foreign}:arm64", "sh", "-c", script, "called", "so")
    assert re.fullmatch(
        r"WARNING: The requested image's platform \(linux/arm64\) does not match the detected host platform "
        r"\(linux/amd64(/v[234])?\) and no specific platform was requested\n[0-9a-f]{64}\n",
        started,
    )
    run("exec", name, "sh", "-c", "until [ -e /ready ]; do sleep 0.2; done")
    assert run("logs", name).splitlines() == ["aarch64", "/bin/busybox", "called so"]
    assert run("exec", "-u", "77", name, "id", "-u") == "77\n"
    assert "sleep 300" in run("top", name)
    # Root beside it reaches the interpreter itself, which all containers' foreign programs run by.
    looking = ("run", "--rm", "--pid", f"container:{name}", "busybox", "sh", "-c")
    said = run(*looking, "readlink /proc/1/exe; : >/proc/1/exe", status=1)
    assert said.startswith("/usr/bin/qemu-aarch64\n")
    assert "Read-only file system" in said
    run("kill", name)
    assert run("inspect", "-f", "{{.State.ExitCode}}", name) == "137\n"


def test_what_nothing_runs_says_so(run: Run, foreign: str, name: str) -> None:
    image = f"{foreign}:s390x"
    said = run("run", "--name", name, "--platform", "linux/s390x", image, "/euid", status=1)
    assert "exec /euid: exec format error" in said
    assert 'programs for linux/s390x do not run here and fail with "exec format error"' in said
    assert "This machine runs linux/amd64, linux/arm64, linux/riscv64, linux/386, linux/arm/v7, linux/arm/v6" in said
    said = run("run", "--name", name, "--platform", "linux/amd64", image, "/euid", status=125)
    assert "Unable to find image" in said or "does not match the specified platform" in said


def test_clients_of_buildkit_are_told_what_runs(run: Run) -> None:
    said = ""
    for _ in range(
        3
    ):  # buildx itself waits for 20 s, in which a busy computer's machine may not have loaded what answers
        said = run("buildx", "inspect")
        if "context deadline exceeded" not in said:
            break
    (line,) = [one for one in said.splitlines() if one.startswith("Platforms:")]
    told = line.split(None, 1)[1].split(", ")
    assert told[0] == "linux/amd64"
    assert [one for one in told if not one.startswith("linux/amd64")] == [
        "linux/arm64", "linux/riscv64", "linux/386", "linux/arm/v7", "linux/arm/v6",
    ]  # fmt: skip


def test_a_cross_build_and_what_runs_what_it_made(run: Run, foreign: str, tmp_path: Path, name: str) -> None:
    """By BuildKit's protocol: a stage on this machine's processor, and one on the target's."""
    (tmp_path / "Dockerfile").write_text(
        "FROM --platform=$BUILDPLATFORM busybox AS made\n"
        "ARG TARGETARCH BUILDPLATFORM\n"
        "RUN echo $(uname -m) $BUILDPLATFORM for $TARGETARCH >/made\n"
        f"FROM {foreign}:arm64\n"
        "COPY --from=made /made /made\n"
        "RUN uname -m >>/made\n"
        'CMD ["cat", "/made"]\n'
    )
    run("build", "--platform", "linux/arm64", "-t", name, str(tmp_path))
    assert run("image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", name) == "linux/arm64\n"
    assert run("run", "--rm", "--platform", "linux/arm64", name) == "x86_64 linux/amd64 for arm64\naarch64\n"
    said = run("build", "--platform", "linux/amd64,linux/arm64", str(tmp_path), status=1)
    assert "Multi-platform build is not supported for the docker driver" in said
    run("rmi", name)


@pytest.mark.parametrize("options", [("--platform", "linux/arm64"), ()])
def test_the_classic_builder_runs_it_too(run: Run, foreign: str, name: str, options: tuple[str, ...]) -> None:
    """It takes the image that is here, asked for or not, and warns in any case, as dockerd does."""
    dockerfile = f"FROM {foreign}:arm64\nRUN uname -m\n"
    said = run("build", "--no-cache", *options, "-t", name, "-", data=dockerfile.encode(), DOCKER_BUILDKIT="0")
    assert (
        "---> [Warning] The requested image's platform (linux/arm64) does not match the detected host platform" in said
    )
    assert "\naarch64\n" in said
    assert run("image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", name) == "linux/arm64\n"
    run("rmi", name)


def test_a_step_that_nothing_runs_says_so(run: Run, foreign: str) -> None:
    dockerfile = f'FROM {foreign}:s390x\nRUN ["/euid"]\n'
    said = run("build", "--platform", "linux/s390x", "-", data=dockerfile.encode(), status=1)
    assert "exec /euid: exec format error" in said
    assert "programs for linux/s390x do not run here" in said


def test_one_name_for_two_platforms(run: Run, foreign: str, vm_engine: Any, tmp_path: Path, name: str) -> None:
    """By `cove build`; each container is of the platform that is asked for, this machine's if none is."""
    (tmp_path / "Dockerfile").write_text(
        f"FROM busybox AS amd64\nFROM {foreign}:arm64 AS arm64\n"
        'FROM $TARGETARCH\nRUN uname -m >/made\nCMD ["cat", "/made"]\n'
    )
    cove = (sys.executable, "-m", "cove", "--host", vm_engine.url)
    run("build", "--platform", "linux/amd64,linux/arm64", "-t", name, str(tmp_path), program=cove)
    assert run("run", "--rm", "--platform", "linux/arm64", name) == "aarch64\n"
    assert run("run", "--rm", name) == "x86_64\n"
    assert run("rmi", name)
