"""What docker's client says of the verbs that Cove does not have yet: why, and what to do instead."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from raw_client import ask

pytestmark = pytest.mark.root


def docker(engine: Any, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DOCKER_HOST": engine.url, "DOCKER_BUILDKIT": "0"}
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.parametrize("size", [10, 30 << 20])  # of the context, which nobody reads
def test_a_build(engine: Any, tmp_path: Path, size: int) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\n")
    (tmp_path / "noise").write_bytes(os.urandom(size))
    done = docker(engine, "build", str(tmp_path))
    assert done.returncode == 1
    assert "Error response from daemon: this version of Cove cannot build images yet. " in done.stderr
    assert "docker load" in done.stderr


def test_the_status_is_that_of_what_is_not_implemented(engine: Any) -> None:
    assert ask(str(engine.socket), "POST", "/build").status == 501
