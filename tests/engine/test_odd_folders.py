"""The engine's own folders, when their names have a meaning elsewhere."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from busybox_image import import_busybox
from engines import Engine

pytestmark = [pytest.mark.root, pytest.mark.native]


@pytest.fixture
def odd() -> Iterator[Engine]:
    above = Path(tempfile.mkdtemp(prefix="cove-e", dir="/tmp"))
    folder = above / "a:b,c=d e"
    folder.mkdir()
    made = Engine(folder)
    try:
        made.start()
        import_busybox(made.url)
        yield made
    finally:
        made.close()
        shutil.rmtree(above)


def test_a_root_with_the_separators_of_mount_options_in_its_path(odd: Engine) -> None:
    client = docker.DockerClient(odd.url, timeout=60)
    assert client.containers.run("busybox", ["sh", "-c", "echo $(ls /bin/sh)"], remove=True) == b"/bin/sh\n"
    client.close()
