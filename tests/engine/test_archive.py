"""Attacks on ``docker cp``: a container that swaps files while they are made or read, and archives that mean harm.

Each of these fails when its guard is taken away: what the swap is to hit is the machine's, and is looked at afterwards.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

pytestmark = pytest.mark.root
RACE_S = 6.0


@pytest.fixture
def container(docker_client: Any) -> Iterator[Callable[..., Any]]:
    """Makes running containers that go at the end."""
    made: list[Any] = []

    def make(script: str = "sleep 600", **options: Any) -> Any:
        one = docker_client.containers.run("busybox", ["sh", "-c", script], detach=True, **options)
        made.append(one)
        return one

    yield make
    for one in made:
        with contextlib.suppress(docker.errors.NotFound):
            one.remove(force=True, v=True)


def archive_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return output.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **values: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in values.items():
        setattr(info, key, value)
    return info


def up(one: Any) -> Any:
    for line in one.logs(stream=True, follow=True):
        if b"up" in line:
            return one
    raise AssertionError("the container ended")


# -- a name that means something else by now


def test_a_link_in_a_new_fifos_place_changes_no_file_of_the_machines(container: Any, engine: Any) -> None:
    """chmod(2) follows links, and an absolute one leads from the root of the thread that calls it: the machine's."""
    target = f"/tmp/cove-mode-{uuid.uuid4().hex}"
    engine.sh(f"umask 077; : >{target}")
    one = up(container(f"mkdir /w; cd /w; echo up; while :; do ln -sf {target} f; done"))
    data = archive_of(*((member("f", tarfile.FIFOTYPE, mode=0o4777), b"") for _ in range(500)))
    tried = 0
    try:
        deadline = time.monotonic() + RACE_S
        while time.monotonic() < deadline:
            tried += 1
            with contextlib.suppress(docker.errors.APIError):
                one.put_archive("/w", data)
            assert engine.sh(f"stat -c %a {target}") == "600\n"
    finally:
        engine.sh(f"rm {target}")
    assert tried > 10
