"""No room left during a build, or no inodes: it ends with Docker's words, nothing is left of it, and the next one works once there
is room again."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from contextlib import closing
from typing import Any

import docker
import pytest

import build_load
from kill_look import Netns
from life_support import eventually
from test_build_classic import context
from test_disk_full import FULL, Disk
from test_disk_full import disk as disk  # a fixture

pytestmark = pytest.mark.root

FILLING = {
    "bytes": "dd if=/dev/zero of=/big bs=64k count=1000",
    "inodes": "mkdir /d; i=0; while [ $i -lt 4000 ]; do : >/d/$i || exit 1; i=$((i+1)); done",
}


def many_files() -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        _add(archive, "Dockerfile", b"FROM busybox\nCOPY . /all\n")
        for number in range(4000):
            _add(archive, f"files/{number}", bytes(8192))
    return output.getvalue()


def nearly_all() -> bytes:
    """A context for which there is room once, but not twice."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        _add(archive, "Dockerfile", b"FROM busybox\nCOPY . /all\n")
        for number in range(1700):
            _add(archive, f"files/{number}", os.urandom(6000))
    return output.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def test_builds_on_a_disk_that_gets_full(
    disk: tuple[Disk, Callable[[], None]],
    engine_with: Callable[..., Any],
) -> None:
    small, fill = disk
    with engine_with("--root", str(small.path)) as engine, closing(docker.APIClient(engine.url, timeout=60)) as client:
        engine.root = small.path
        netns = Netns(engine.namespace_pid)

        def error(archive: bytes) -> str:
            """What a build ends with, which may come instead of an answer."""
            try:
                messages = [*client.build(fileobj=io.BytesIO(archive), custom_context=True, decode=True)]
            except docker.errors.APIError as refused:
                assert refused.response.status_code == 500
                return str(refused.explanation)
            return str(messages[-1].get("error", f"none, but {messages[-1]}"))

        def nothing_left() -> None:
            assert build_load.wrong_in(engine, netns) == {}

        try:
            good = context("FROM busybox\nRUN echo before > /before\n")
            assert error(good).startswith("none")
            before = used(small), engine.descriptors()
            what = "inodes" if os.statvfs(small.path).f_files < 4000 else "bytes"
            for archive in (many_files(), nearly_all(), context(f"FROM busybox\nRUN {FILLING[what]}\n")):
                said = error(archive)
                assert FULL in said or "returned a non-zero code: 1" in said, said
                nothing_left()
                assert used(small) <= before[0] + (1 << 20)
            fill()
            for archive in (many_files(), nearly_all(), context("FROM busybox\nRUN echo after > /after\n")):
                assert FULL in error(archive)
            small.free()
            nothing_left()
            assert error(context("FROM busybox\nRUN echo after > /after\nCOPY one /\n", one="x")).startswith("none")
            client.prune_builds(all=True)
            nothing_left()
            assert [*(small.path / "build/snapshots").iterdir()] == []
            eventually(lambda: engine.descriptors() <= before[1] + 2)
        finally:
            netns.close()


def used(full: Disk) -> int:
    found = os.statvfs(full.path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
