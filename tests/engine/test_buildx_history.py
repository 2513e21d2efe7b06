"""What was built: `docker buildx history`, and the same as JSON for the dashboard."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from debian_files import docker_config, newer_buildx_program
from life_support import eventually

pytestmark = [pytest.mark.root, pytest.mark.native]

BOUND_S = 120
Run = Callable[..., str]


@pytest.fixture
def environment(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if name != "DOCKER_BUILDKIT"}
    config = docker_config(tmp_path_factory.mktemp("docker") / "config", newer_buildx_program())
    return {
        **given, "DOCKER_HOST": engine.url, "DOCKER_CONFIG": str(config), "BUILDKIT_PROGRESS": "plain",
        "DOCKER_CLI_HINTS": "false",
    }  # fmt: skip


@pytest.fixture
def cli(environment: dict[str, str]) -> Run:
    """What docker says on both of its outputs."""

    def run(*words: str | Path, status: int = 0, **more: str) -> str:
        done = subprocess.run(
            ["docker", *map(str, words)], capture_output=True, timeout=BOUND_S, env={**environment, **more}, text=True
        )
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def name(tmp_path: Path) -> str:
    """Of the folder that is built, by which buildx calls the build."""
    return f"built-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def made(tmp_path: Path, name: str) -> Callable[..., Path]:
    """A folder with a Dockerfile and other files."""

    def make(dockerfile: str, **files: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for path, text in {"Dockerfile": dockerfile, **files}.items():
            (folder / path).write_text(text)
        return folder

    return make


def records(cli: Run, name: str) -> list[dict[str, str]]:
    """Of the folder of this name, the newest first."""
    lines = cli("buildx", "history", "ls", "--no-trunc", "--format", "{{.Ref}} {{.Name}} {{.Status}}").splitlines()
    found = [re.fullmatch(r"(\S+) (\S*) (\w+)", line) for line in lines]
    return [{"ref": match[1].rpartition("/")[2], "status": match[3]} for match in found if match and match[2] == name]


def ask(engine: Any, method: str, path: str) -> tuple[int, list[Any]]:
    """What the engine answers: lines of JSON."""
    connection = _Connection(engine.socket)
    connection.request(method, path)
    answer = connection.getresponse()
    told = [json.loads(line) for line in answer.read().splitlines()]
    connection.close()
    return answer.status, told


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=BOUND_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(BOUND_S)
        self.sock.connect(str(self._path))


@contextmanager
def listening(engine: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """What is told of builds from now on."""
    connection = _Connection(engine.socket)
    connection.request("GET", "/cove/builds?follow=1")
    answer = connection.getresponse()
    lines = iter(answer.readline, b"")
    while json.loads(next(lines)) != {"Ready": True}:
        pass
    try:
        yield (json.loads(line) for line in lines)
    finally:
        connection.close()


def test_a_build_is_listed_inspected_and_its_log_read(cli: Run, name: str, made: Callable[..., Path]) -> None:
    folder = made("FROM busybox\nARG WHO\nCOPY f /\nRUN echo greetings to $WHO\n", f="x")
    cli("build", "-t", name, "--build-arg", "WHO=all", folder)
    (record,) = records(cli, name)
    assert record["status"] == "Completed"
    told = json.loads(cli("buildx", "history", "inspect", "--format", "json", record["ref"]))
    assert told["Status"] == "completed"
    assert told["BuildArgs"] == [{"Name": "WHO", "Value": "all"}]
    assert told["NumCompletedSteps"] == told["NumTotalSteps"] > 3
    said = cli("buildx", "history", "logs", record["ref"])
    assert re.search(r"#\d+ [0-9.]+ greetings to all\n", said)
    cli("build", "-t", name, "--build-arg", "WHO=all", folder)
    again, _ = records(cli, name)
    told = json.loads(cli("buildx", "history", "inspect", "--format", "json", again["ref"]))
    assert told["NumCachedSteps"] == 3
    cli("image", "rm", name)


def test_a_record_is_exported_with_its_log(cli: Run, name: str, made: Callable[..., Path], tmp_path: Path) -> None:
    cli("build", made("FROM busybox\nRUN echo exported; exit 1\n"), status=1)
    (record,) = records(cli, name)
    archive = tmp_path / "archive"
    cli("buildx", "history", "export", "-o", archive, record["ref"])
    with tarfile.open(archive) as tar:
        blobs = [tar.extractfile(each) for each in tar if each.isfile()]
        data = [blob.read() for blob in blobs if blob is not None]
    assert any(b"exported\n" in each for each in data)
    assert any(b"errdefs.Source+json" in each for each in data)


def test_a_failure_is_told_with_its_lines_and_the_last_output(cli: Run, name: str, made: Callable[..., Path]) -> None:
    cli("build", made("FROM busybox\nRUN echo the last words; exit 3\n"), status=1)
    (record,) = records(cli, name)
    assert record["status"] == "Error"
    said = cli("buildx", "history", "inspect", record["ref"])
    assert "did not complete successfully: exit code: 3" in said
    assert ">>> RUN echo the last words; exit 3" in said
    assert "> the last words" in said


def test_a_build_under_way_is_followed_and_then_canceled(
    cli: Run, environment: dict[str, str], name: str, made: Callable[..., Path], engine: Any
) -> None:
    folder = made("FROM busybox\nRUN echo begun; sleep 1000\n")
    with listening(engine) as news:
        process = subprocess.Popen(
            ["docker", "build", folder], stderr=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        try:
            build = next(one["Build"] for one in news if one.get("Build", {}).get("Context") == name)
            assert build["State"] == "running"
            (record,) = records(cli, name)
            assert record["status"] == "Running"
            assert "(running)" in cli("buildx", "history", "inspect", record["ref"])
            assert "still under way" in cli("buildx", "history", "rm", record["ref"], status=1)
            reading = subprocess.Popen(
                ["docker", "buildx", "history", "logs", record["ref"]], stderr=subprocess.PIPE, env=environment
            )
            assert reading.stderr is not None
            said = b""
            while not re.search(rb"#\d+ [0-9.]+ begun\n", said):
                said += (line := reading.stderr.readline())
                assert line, said
            os.killpg(process.pid, signal.SIGINT)
            last = next(one["Build"] for one in news if one.get("Build", {}).get("CompletedAt"))
            assert last["State"] == "canceled"
            assert b"CANCELED" in reading.communicate(timeout=BOUND_S)[1]
        finally:
            process.kill()
            process.wait(BOUND_S)
    assert "Canceled" in cli("buildx", "history", "inspect", record["ref"])


def test_records_are_removed(cli: Run, name: str, made: Callable[..., Path], engine: Any) -> None:
    cli("build", made("FROM busybox\nRUN true\n"))
    cli("build", made("FROM busybox\nRUN echo\n"))
    one, other = records(cli, name)
    with listening(engine) as news:
        cli("buildx", "history", "rm", one["ref"])
        assert next(news) == {"Removed": one["ref"]}
    assert records(cli, name) == [other]
    assert "no record found" in cli("buildx", "history", "logs", one["ref"], status=1)
    assert "no record found" in cli("buildx", "history", "rm", one["ref"], status=1)
    assert ask(engine, "DELETE", f"/cove/builds/{other['ref']}")[0] == 204
    assert records(cli, name) == []
    assert ask(engine, "DELETE", f"/cove/builds/{other['ref']}")[0] == 404


def test_all_records_are_removed(cli: Run, made: Callable[..., Path], engine: Any) -> None:
    cli("build", made("FROM busybox\nRUN true\n"))
    cli("buildx", "history", "rm", "--all")
    assert ask(engine, "GET", "/cove/builds") == (200, [])
    assert engine.names(f"{engine.root}/build/history") == []


def test_records_outlive_the_engine(cli: Run, name: str, made: Callable[..., Path], engine: Any) -> None:
    cli("build", made("FROM busybox\nRUN echo kept\n"))
    (record,) = records(cli, name)
    eventually(lambda: any(each.endswith(".build") for each in engine.names(f"{engine.root}/build/history")))
    engine.kill()
    engine.start()
    assert records(cli, name) == [record]
    assert re.search(r"#\d+ [0-9.]+ kept\n", cli("buildx", "history", "logs", record["ref"]))


def test_builds_by_the_classic_api_are_records_too(cli: Run, name: str, made: Callable[..., Path], engine: Any) -> None:
    folder = made("FROM busybox\nARG A\nRUN echo said by $A\n")
    cli("build", "-t", name, "--build-arg", "A=b", folder, DOCKER_BUILDKIT="0")
    build = ask(engine, "GET", "/cove/builds")[1][-1]["Build"]
    assert build["State"] == "completed"
    assert build["Exporters"] == [{"Type": "moby", "Attrs": {"name": name}}]
    assert build["FrontendAttrs"]["build-arg:A"] == "b"
    assert build["ExporterResponse"]["containerimage.digest"] == cli("image", "inspect", "-f", "{{.Id}}", name).strip()
    assert re.search(r"#\d+ [0-9.]+ said by b\n", cli("buildx", "history", "logs", build["Ref"]))
    made("FROM busybox\nRUN exit 5\n")
    cli("build", folder, status=5, DOCKER_BUILDKIT="0")
    failed = ask(engine, "GET", "/cove/builds")[1][-1]["Build"]
    assert failed["State"] == "failed"
    assert failed["Error"]["Source"]["First"] == 2
    cli("image", "rm", name)


def test_secrets_are_in_no_record(cli: Run, name: str, made: Callable[..., Path], engine: Any, tmp_path: Path) -> None:
    secret = uuid.uuid4().hex
    (tmp_path / "secret").write_text(secret)
    folder = made(
        'FROM busybox\nRUN --mount=type=secret,id=s --mount=type=secret,id=e,env=E test -s /run/secrets/s -a -n "$E"\n'
    )
    secrets = ("--secret", f"id=s,src={tmp_path / 'secret'}", "--secret", "id=e,env=HIDDEN")
    cli("build", *secrets, "--build-arg", f"PROXY=http://me:{secret}@proxy:3128", folder, HIDDEN=secret)
    (record,) = records(cli, name)
    told = json.dumps(ask(engine, "GET", "/cove/builds")[1]) + cli("buildx", "history", "inspect", record["ref"])
    assert "http://xxxxx:xxxxx@proxy:3128" in told
    assert secret not in told
    files = Path(engine.root, "build", "history")
    eventually(lambda: [*files.glob("*.build")])
    for file in files.glob("*.build"):
        data = file.read_bytes()
        length = int.from_bytes(data[:4], "big")
        assert secret.encode() not in data[: 4 + length]
        assert secret.encode() not in gzip.decompress(data[4 + length :])
