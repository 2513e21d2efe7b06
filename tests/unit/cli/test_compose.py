"""`cove compose` becomes the docker compose that is installed; here a script that tells what it was given."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from cove.cli import compose
from told_engine import COVE, engine_at

TELLING = '#!/bin/sh\necho "$$ $0"\necho "$*"\nenv\nexit 7\n'


def program(path: Path, script: str = TELLING) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
    return path


def call(home: Path, *words: str, **environment: str) -> tuple[int, str, str, int]:
    """Status, outputs, and the pid of `cove` itself."""
    base = {"PATH": "/usr/bin:/bin", "HOME": str(home), "DOCKER_CONFIG": str(home / ".docker"), **environment}
    base |= {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}
    with subprocess.Popen(
        [*COVE, "compose", *words], env=base, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        out, err = process.communicate(timeout=30)
    return process.returncode, out, err, process.pid


def test_the_plugin_takes_the_place_of_cove(tmp_path: Path) -> None:
    plugin = program(tmp_path / ".docker/cli-plugins/docker-compose")
    with engine_at(tmp_path / "engine.sock") as engine:
        host = engine.url
        status, out, err, pid = call(
            tmp_path, "-f", "x.yaml", "up", "--wait", "-d", "--", "--help",
            COVE_HOST=host, DOCKER_HOST="tcp://elsewhere:1", DOCKER_CONTEXT="other", DOCKER_TLS_VERIFY="1",
            DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND="docker", MINE="kept",
        )  # fmt: skip
    first, words, *told = out.splitlines()
    assert (status, err) == (7, "")
    assert first == f"{pid} {plugin}"
    assert words == "-f x.yaml up --wait -d -- --help"
    assert {f"DOCKER_HOST={host}", "MINE=kept", f"DOCKER_CONFIG={tmp_path}/.docker"} <= set(told)
    assert not [line for line in told if line.startswith(("DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_CLI_PLUGIN"))]


def test_an_engine_that_is_not_there_is_told_of_and_help_needs_none(tmp_path: Path) -> None:
    program(tmp_path / ".docker/cli-plugins/docker-compose")
    nowhere = {"COVE_HOST": f"unix://{tmp_path}/none.sock"}
    status, out, err, _ = call(tmp_path, "up", **nowhere)
    assert (status, out) == (1, "")
    assert "Cannot connect to the Docker daemon" in err
    assert call(tmp_path, "up", "--help", **nowhere)[0] == 7
    assert call(tmp_path, "--help", **nowhere)[0] == 7


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ([], False),
        (["--version"], False),
        (["version"], False),
        (["-f", "up", "config"], False),
        (["--file=x", "--profile", "p", "ps"], True),
        (["up", "-h"], False),
        (["run", "web", "--help"], True),
    ],
)
def test_what_the_engine_is_needed_for(words: list[str], needed: bool) -> None:
    assert compose.needs_engine(words) is needed


def test_docker_s_folders_are_looked_into_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(compose, "SYSTEM_FOLDERS", (str(tmp_path / "system"),))
    assert compose.find() is None
    for folder in ("bin", "system", "config/cli-plugins"):
        made = program(tmp_path / folder / "docker-compose")
        assert compose.find() == made
    (tmp_path / "config/config.json").write_text(json.dumps({"cliPluginsExtraDirs": [str(tmp_path / "extra")]}))
    assert compose.find() == made
    extra = program(tmp_path / "extra/docker-compose")
    extra.chmod(0o644)
    assert compose.find() == (extra if os.access(extra, os.X_OK) else made)
    extra.chmod(0o755)
    assert compose.find() == extra


@pytest.mark.parametrize(
    ("release", "told"),
    [
        ('ID=debian\nVERSION_ID="13"\n', "get it with: apt install docker-compose\n"),
        ('ID=debian\nVERSION_ID="12"\n', "get docker-compose-linux-"),
        ("ID=ubuntu\nID_LIKE=debian\n", "get it with: apt install docker-compose-v2\n"),
        ('ID=rocky\nID_LIKE="rhel centos fedora"\n', "get it with: dnf install docker-compose\n"),
        ("ID=own\n", "get docker-compose-linux-"),
    ],
)
def test_who_has_none_is_told_how_to_get_it(
    release: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platform

    read = dict(line.split("=", 1) for line in release.replace('"', "").splitlines())
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: read)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    said = compose.missing()
    assert said.startswith("cove: docker compose is not installed\n")
    assert told in said
    assert f"{compose.RELEASES}, executable, as {tmp_path}/cli-plugins/docker-compose" in said


@pytest.mark.parametrize(
    ("system", "machine", "file", "as_what"),
    [
        ("linux", "x86_64", "docker-compose-linux-x86_64", "docker-compose"),
        ("linux", "aarch64", "docker-compose-linux-aarch64", "docker-compose"),
        ("linux", "armv7l", "docker-compose-linux-armv7", "docker-compose"),
        ("darwin", "arm64", "docker-compose-darwin-aarch64", "docker-compose"),
        ("darwin", "x86_64", "docker-compose-darwin-x86_64", "docker-compose"),
        ("win32", "AMD64", "docker-compose-windows-x86_64.exe", "docker-compose.exe"),
        ("win32", "ARM64", "docker-compose-windows-aarch64.exe", "docker-compose.exe"),
    ],
)
def test_the_file_of_a_release_is_named(
    system: str, machine: str, file: str, as_what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platform

    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(compose.sys, "platform", system)
        said = compose.missing()
    assert said.endswith(f" {file} from {compose.RELEASES}, executable, as {tmp_path}/cli-plugins/{as_what}")
