"""The real buildx and compose against the engine."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import tarfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from debian_files import docker_config
from life_support import eventually

pytestmark = [pytest.mark.root, pytest.mark.native]

BOUND_S = 120
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def environment(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if name != "DOCKER_BUILDKIT"}
    config = docker_config(tmp_path_factory.mktemp("docker") / "config")
    return {
        **given, "DOCKER_HOST": engine.url, "DOCKER_CONFIG": str(config), "BUILDKIT_PROGRESS": "plain",
        "DOCKER_CLI_HINTS": "false",
    }  # fmt: skip


@pytest.fixture
def cli(environment: dict[str, str]) -> Run:
    def run(*words: str | Path, data: bytes = b"", status: int = 0, **more: str) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            ["docker", *map(str, words)], input=data, capture_output=True, timeout=BOUND_S, env={**environment, **more}
        )
        assert done.returncode == status, done.stderr.decode()
        return done

    return run


@pytest.fixture
def name() -> str:
    return f"buildx-{uuid.uuid4().hex}"


def context(folder: Path, dockerfile: str, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for path, text in {"Dockerfile": dockerfile, **files}.items():
        (folder / path).write_text(text)
    return folder


def test_build(cli: Run, name: str, tmp_path: Path) -> None:
    made = context(tmp_path, "FROM busybox\nARG A\nCOPY f /\nRUN echo $A >> /f\nCMD cat /f\n", f="file ")
    ids = tmp_path / "id"
    done = cli("build", "-t", name, "--build-arg", "A=b", "--iidfile", ids, made)
    assert b"transferring context:" in done.stderr
    assert cli("run", "--rm", name).stdout == b"file b\n"
    assert cli("image", "inspect", "-f", "{{.Id}}", name).stdout.decode().strip() == ids.read_text()
    again = cli("build", "-t", name, "--build-arg", "A=b", made)
    assert again.stderr.count(b"CACHED") == 3
    assert cli("build", "-q", "--build-arg", "A=b", made).stdout.decode().strip() == ids.read_text()
    cli("image", "rm", name)


def test_a_failure_is_shown_where_it_is(cli: Run, tmp_path: Path) -> None:
    made = context(tmp_path, "FROM busybox\nRUN echo before; exit 3\n")
    said = cli("build", made, status=1).stderr.decode()
    assert ">>> RUN echo before; exit 3" in said
    assert "did not complete successfully: exit code: 3" in said
    assert re.search(r"#\d+ [0-9.]+ before\n", said)


def test_secrets(cli: Run, tmp_path: Path) -> None:
    made = context(
        tmp_path / "c", "FROM busybox\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s; ls /run/secrets\n"
    )
    (tmp_path / "s").write_text("12345")
    assert re.search(rb"#\d+ [0-9.]+ 5\n", cli("build", "--secret", f"id=s,src={tmp_path / 's'}", made).stderr)


def test_an_ssh_agent(cli: Run, tmp_path: Path) -> None:
    if not shutil.which("ssh-agent"):
        pytest.skip("there is no ssh-agent here")
    made = context(tmp_path, "FROM busybox\nRUN --mount=type=ssh [ -S $SSH_AUTH_SOCK ]\n")
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        eventually(socket.exists)
        cli("build", "--ssh", "default", made, SSH_AUTH_SOCK=str(socket))
    finally:
        agent.terminate()
        agent.wait(10)


def test_files_instead_of_an_image(cli: Run, tmp_path: Path) -> None:
    made = context(tmp_path / "c", "FROM scratch\nCOPY f /a/\n", f="x")
    cli("build", "-o", tmp_path / "out", made)
    assert (tmp_path / "out" / "a" / "f").read_text() == "x"
    done = cli("build", "--output", "type=tar,dest=-", made)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert "a/f" in archive.getnames()


def test_standard_input(cli: Run, name: str, tmp_path: Path) -> None:
    cli("build", "-t", name, "-", data=b"FROM busybox\nCMD echo from a Dockerfile\n")
    assert cli("run", "--rm", name).stdout == b"from a Dockerfile\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(context(tmp_path, "FROM busybox\nCOPY f /\nCMD cat /f\n", f="from an archive"), ".")
    cli("build", "-t", name, "-", data=buffer.getvalue())
    assert cli("run", "--rm", name).stdout == b"from an archive"
    made = context(tmp_path, "FROM none\n")
    cli("build", "-t", name, "-f", "-", made, data=b"FROM busybox\nCOPY f /\nCMD cat /f; echo both\n")
    assert cli("run", "--rm", name).stdout == b"from an archiveboth\n"
    cli("image", "rm", "-f", name)


def test_an_interrupt_ends_what_runs(environment: dict[str, str], engine: Any, tmp_path: Path) -> None:
    marker = f"7{uuid.uuid4().int % 10**8:08}"
    running = f"cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'slee[p] {marker}' || true"
    made = context(tmp_path, f"FROM busybox\nRUN sleep {marker}\n")
    process = subprocess.Popen(
        ["docker", "build", made], stderr=subprocess.PIPE, env=environment, start_new_session=True
    )
    try:
        eventually(lambda: bool(engine.sh(running)))
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=BOUND_S)
    finally:
        process.kill()
    assert process.returncode != 0
    assert b"CANCELED" in said
    eventually(lambda: not engine.sh(running))


def test_what_buildx_tells_of_the_builder(cli: Run, tmp_path: Path) -> None:
    assert b"running" in cli("buildx", "ls").stdout
    assert re.search(rb"Platforms: +linux/", cli("buildx", "inspect").stdout)
    cli("build", context(tmp_path, "FROM busybox\nRUN true\n"))
    assert re.search(rb"Total:\s", cli("buildx", "du").stdout)
    assert b"source.local" in cli("buildx", "du", "--verbose").stdout
    assert re.search(rb"Total:\s", cli("buildx", "prune", "-f").stdout)
    assert b"source.local" not in cli("buildx", "du", "--verbose").stdout


def test_bake_of_a_build_that_begins_with_another(cli: Run, name: str, tmp_path: Path) -> None:
    (tmp_path / "docker-bake.hcl").write_text(
        'group "default" { targets = ["one", "two"] }\n'
        'target "one" {\n  dockerfile-inline = "FROM busybox\\nRUN echo one > /one\\n"\n'
        f'  tags = ["{name}-one"]\n}}\n'
        'target "two" {\n  contexts = { base = "target:one" }\n'
        '  dockerfile-inline = "FROM base\\nCOPY --from=base /one /two\\nCMD cat /one /two\\n"\n'
        f'  tags = ["{name}-two"]\n}}\n'
    )
    file = tmp_path / "docker-bake.hcl"
    cli("buildx", "bake", "-f", file)
    assert cli("run", "--rm", f"{name}-two").stdout == b"one\none\n"
    cli("image", "rm", f"{name}-one", f"{name}-two")


def test_compose(cli: Run, name: str, tmp_path: Path) -> None:
    context(tmp_path, "FROM busybox\nCMD echo one\n")
    (tmp_path / "compose.yaml").write_text(
        f"name: {name}\nservices:\n  one:\n    image: {name}-one\n    build: .\n    network_mode: none\n"
        f"  two:\n    image: {name}-two\n    network_mode: none\n    build:\n      context: .\n"
        '      dockerfile_inline: "FROM busybox\\nCMD echo two\\n"\n'
    )
    file = tmp_path / "compose.yaml"
    try:
        cli("compose", "-f", file, "build")
        said = cli("compose", "-f", file, "up").stdout
        assert b"one\n" in said
        assert b"two\n" in said
    finally:
        cli("compose", "-f", file, "down", "--rmi", "all")


def test_a_context_stands_for_a_stage_and_for_an_image(cli: Run, name: str, tmp_path: Path) -> None:
    made = context(
        tmp_path / "c",
        "FROM busybox AS tools\nRUN false\nFROM no.such.registry.invalid/base:latest\nCOPY --from=tools /x /x\nRUN cat /x\n",
    )
    given = context(tmp_path / "tools", "", x="given\n")
    contexts = ("--build-context", f"tools={given}")
    images = ("--build-context", "no.such.registry.invalid/base=docker-image://busybox")
    assert b"given" in cli("buildx", "build", *contexts, *images, "-t", name, made).stderr
    based = context(
        tmp_path / "b", "FROM tools\nCOPY --from=busybox /bin/busybox /bin/sh\nRUN read -r line < /x; echo $line\n"
    )
    assert b" given" in cli("buildx", "build", *contexts, based).stderr


def test_what_a_command_may_do_is_allowed_one_by_one(cli: Run, tmp_path: Path) -> None:
    made = context(tmp_path, "FROM busybox\nRUN --network=host --security=insecure true\n")
    for allowed in ((), ("security.insecure",), ("network.host",)):
        options = [word for one in allowed for word in ("--allow", one)]
        assert b"is not allowed" in cli("buildx", "build", *options, made, status=1).stderr


def test_secrets_by_their_names(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hidden")
    made = context(
        tmp_path / "c",
        "FROM busybox\nRUN --mount=type=secret,id=a/b cat /run/secrets/b\n"
        "RUN --mount=type=secret,source=mine,target=/x,required=true cat /x\n",
    )
    secrets = ("--secret", f"id=a/b,src={tmp_path}/file", "--secret", f"id=mine,src={tmp_path}/file")
    assert cli("buildx", "build", "--no-cache", *secrets, made).stderr.count(b" hidden") == 2


def test_arguments_of_a_stage_are_those_of_what_is_based_on_it(cli: Run, tmp_path: Path) -> None:
    made = context(
        tmp_path,
        'FROM busybox AS base\nARG VERSION=1.2\nFROM base\nENV SEEN=$VERSION\nRUN echo "seen: $SEEN, $VERSION"\n',
    )
    assert b"seen: 1.2, 1.2" in cli("buildx", "build", made).stderr
    assert b"seen: 3, 3" in cli("buildx", "build", "--build-arg", "VERSION=3", made).stderr


def test_what_a_dockerfile_offers(cli: Run, tmp_path: Path) -> None:
    made = context(tmp_path, "# base of all\nFROM busybox AS base\nARG A=1\nRUN --mount=type=secret,id=s true\n")
    asked = ("buildx", "build", "--output=type=cacheonly", "--progress=quiet")
    done = cli(*asked, "--print=outline", made, BUILDX_EXPERIMENTAL="1")
    assert b"BUILD ARG   VALUE   DESCRIPTION\nA           1       \n\nSECRET   REQUIRED\ns        \n" in done.stdout
    done = cli(*asked, "--print=targets", made, BUILDX_EXPERIMENTAL="1")
    assert b"TARGET         DESCRIPTION\nbase (default) of all\n" in done.stdout
