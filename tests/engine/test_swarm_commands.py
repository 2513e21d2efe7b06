"""The docker command's swarm and plugin verbs, as they end with an engine that has neither.

What is expected was read off a dockerd 26.1 that is in no swarm, with the same client.
"""

import os
import subprocess
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.native]

NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
DAEMON = f"Error response from daemon: {NO_MANAGER}\n"
NO_SWARM = "Error response from daemon: This node is not part of a swarm\n"


def run(engine: Any, words: str) -> tuple[int, str, str]:
    environment = {**os.environ, "DOCKER_HOST": engine.url}
    result = subprocess.run(
        ["docker", *words.split()],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize(
    "words",
    [
        *("node ls", "node ps", "node rm x", "node promote x", "node demote x", "node update --role worker x"),
        *("service ls", "service create busybox", "service ps x", "service rm x", "service logs x", "service update x"),
        *("service rollback x", "stack ls", "stack ps x", "stack rm x", "stack services x", "secret ls", "secret rm x"),
        *("config ls", "config rm x", "swarm join-token worker", "swarm ca"),
        "volume create --scope single --availability active cluster",
    ],
)
def test_no_manager(engine: Any, words: str) -> None:
    assert run(engine, words) == (1, "", DAEMON)


@pytest.mark.parametrize("words", ["node inspect x", "service inspect x", "secret inspect x", "config inspect x"])
def test_inspections(engine: Any, words: str) -> None:
    assert run(engine, words) == (1, "[]\n", DAEMON)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("swarm leave", NO_SWARM),
        ("swarm leave --force", NO_SWARM),
        ("swarm unlock", "Error: This node is not part of a swarm\n"),
        ("swarm unlock-key", f"could not fetch unlock key: {DAEMON}"),
        ("service scale x=1", f"x: {DAEMON}"),
        ("plugin rm x", 'Error response from daemon: plugin "x" not found\n'),
        ("plugin enable x", 'Error response from daemon: plugin "x" not found\n'),
        ("plugin disable x", 'Error response from daemon: plugin "x" not found\n'),
        ("plugin set x a=b", 'Error response from daemon: plugin "x" not found\n'),
        ("plugin push x", 'Error response from daemon: plugin "x:latest" not found\n'),
        ("plugin upgrade x", 'error reading plugin data: Error response from daemon: plugin "x" not found\n'),
        ("volume update x", "Error response from daemon: get x: no such volume\n"),
        (
            "volume create -d foo bar",
            'Error response from daemon: create bar: error looking up volume plugin foo: plugin "foo" not found\n',
        ),
        (
            "checkpoint ls x",
            "docker checkpoint ls is only supported on a Docker daemon with experimental features enabled\n",
        ),
    ],
)
def test_errors(engine: Any, words: str, error: str) -> None:
    assert run(engine, words) == (1, "", error)


def test_no_plugins(engine: Any) -> None:
    assert run(engine, "plugin ls") == (0, "ID        NAME      DESCRIPTION   ENABLED\n", "")
    code, output, error = run(engine, "plugin inspect x")
    assert (code, output, error) == (1, "[]\n", 'Error response from daemon: plugin "x" not found\n')


def test_a_swarm_is_refused_and_the_engine_says_why(engine: Any) -> None:
    code, _, error = run(engine, "swarm init")
    assert code == 1 and "swarm mode is not part of Cove" in error
    assert "Swarm: inactive" in run(engine, "info")[1]
