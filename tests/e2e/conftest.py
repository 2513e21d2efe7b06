"""The command line's tests run against the shared machine, unless COVE_TEST_DOCKER_HOST names another engine."""

from __future__ import annotations

import os
import subprocess

import pytest
from app_images import archive, build, docker_config


@pytest.fixture(scope="session", autouse=True)
def docker_host(request: pytest.FixtureRequest) -> str:
    """The engine's address, in the environment too, where the tests' own processes look for it."""
    host = os.environ.get("COVE_TEST_DOCKER_HOST")
    if host is None:
        host = str(request.getfixturevalue("machine").docker_host)
        os.environ["COVE_TEST_DOCKER_HOST"] = host
    return host


@pytest.fixture(scope="session")
def images(docker_host: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The applications' and the Debian that they are built on."""
    if os.environ.get("COVE_TEST_BUILD_APPS") or os.getuid() != 0:
        build(docker_host, docker_config(tmp_path_factory.mktemp("docker") / "config"))
        return
    words = ["docker", "--host", docker_host, "load", "--quiet", "--input", str(archive())]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
