"""The engine's own folders, when their names have a meaning elsewhere."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

pytestmark = [pytest.mark.root, pytest.mark.native]


def test_a_root_with_the_separators_of_mount_options_in_its_path(engine_with: Callable[..., Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="cove-e", dir="/tmp") as above:
        folder = Path(above, "a:b,c=d e")
        folder.mkdir()
        with engine_with(folder=folder) as odd, contextlib.closing(docker.DockerClient(odd.url, timeout=60)) as client:
            assert client.containers.run("busybox", ["sh", "-c", "echo $(ls /bin/sh)"], remove=True) == b"/bin/sh\n"
