"""The command line's tests run against the shared machine, unless COVE_TEST_DOCKER_HOST names another engine."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def docker_host(request: pytest.FixtureRequest) -> str:
    """The engine's address, in the environment too, where the tests' own processes look for it."""
    host = os.environ.get("COVE_TEST_DOCKER_HOST")
    if host is None:
        host = str(request.getfixturevalue("machine").docker_host)
        os.environ["COVE_TEST_DOCKER_HOST"] = host
    return host
