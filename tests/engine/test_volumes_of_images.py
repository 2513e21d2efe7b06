"""What an image has at the place of a volume, when it is no folder."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from life_support import ask

pytestmark = [pytest.mark.root, pytest.mark.native]


@pytest.fixture
def image(docker_client: Any) -> Iterator[str]:
    """An image with a volume at /x, where it has a device that no driver answers for: opening it fails (ENXIO)."""
    name = f"i-{uuid.uuid4().hex[:12]}"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("x")
        member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 60, 77  # for experiments, devices.txt
        tar.addfile(member)
    docker_client.api.import_image_from_data(data.getvalue(), name, "latest", changes=["VOLUME /x", 'CMD ["/none"]'])
    yield name
    docker_client.images.remove(name, force=True)


def test_a_device_at_a_volumes_place_is_not_opened_and_no_folder(engine: Any, docker_client: Any, image: str) -> None:
    before = [one.name for one in docker_client.volumes.list()]
    status, answer = ask(engine, "POST", "/containers/create", {"Image": image})
    assert status == 500
    assert answer["message"].startswith("source ") and answer["message"].endswith("/root/x is not directory")
    assert [one.name for one in docker_client.volumes.list()] == before  # and it leaves none behind
    assert len(engine.names(engine.root / "containers")) == len(docker_client.containers.list(all=True))
