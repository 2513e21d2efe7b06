"""The machine dies: what of the engine's metadata had reached the disk by then is what its next engine begins with.

Its death is played on this computer: engine and shims are killed, and the database is put back to what was on the disk for good.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from isolation_support import shim_of

pytestmark = pytest.mark.root


class Disk:
    """The database as it was after the last change that was waited for."""

    def __init__(self, engine: Any, folder: Path) -> None:
        self._engine = engine
        self._folder = folder

    def note(self) -> None:
        for name in ("metadata.db", "metadata.db-wal"):
            shutil.copy(self._engine.root / name, self._folder / name)

    def die(self, *running: Any) -> None:
        """With the containers ``running``; the machine is there again when this returns."""
        shims = [shim_of(self._engine, container) for container in running]
        self._engine.kill(" ".join(f"kill -9 {pid};" for pid in shims))
        (self._engine.root / "metadata.db-shm").unlink(missing_ok=True)
        for name in ("metadata.db", "metadata.db-wal"):
            shutil.copy(self._folder / name, self._engine.root / name)
        self._engine.start()


@contextlib.contextmanager
def client_of(engine: Any) -> Iterator[Any]:
    client = docker.DockerClient(engine.url, timeout=60)
    try:
        yield client
    finally:
        client.close()


def state(container: Any) -> tuple[str, int]:
    container.reload()
    return container.attrs["State"]["Status"], container.attrs["State"]["ExitCode"]


def test_a_policy_starts_again_what_ran_and_an_end_holds(own_engine: Any, tmp_path: Path) -> None:
    disk = Disk(own_engine, tmp_path)
    with client_of(own_engine) as client:
        ended = client.containers.run("busybox", ["sh", "-c", "exit 7"], detach=True)
        kept = client.containers.create("busybox", ["sleep", "300"], restart_policy={"Name": "unless-stopped"})
        kept.start()
        assert ended.wait()["StatusCode"] == 7
        disk.note()
        disk.die(kept)
        assert state(ended) == ("exited", 7)
        assert state(kept) == ("running", 0)
        for one in (ended, kept):
            one.remove(force=True)


def test_a_start_that_did_not_reach_the_disk_has_not_happened(own_engine: Any, tmp_path: Path) -> None:
    disk = Disk(own_engine, tmp_path)
    with client_of(own_engine) as client:
        fresh = client.containers.create("busybox", ["sleep", "300"])
        ended = client.containers.create("busybox", ["sh", "-c", "[ -e /x ] && exec sleep 300; touch /x; exit 3"])
        ended.start()
        assert ended.wait()["StatusCode"] == 3
        passing = client.containers.create("busybox", ["sleep", "300"], auto_remove=True)
        disk.note()
        for one in (fresh, ended, passing):
            one.start()
        disk.die(fresh, ended, passing)
        assert [state(one) for one in (fresh, ended, passing)] == [("created", 0), ("exited", 3), ("created", 0)]
        assert client.containers.list() == []
        for one in (fresh, ended):
            one.start()
            assert state(one) == ("running", 0)
            assert one.exec_run(["true"]).exit_code == 0
        for one in (fresh, ended, passing):
            one.remove(force=True)
        assert client.containers.list(all=True) == []
        assert own_engine.names(own_engine.state / "shims") == []


def test_a_container_whose_folder_did_not_reach_the_disk_is_there(own_engine: Any) -> None:
    with client_of(own_engine) as client:
        fresh = client.containers.create("busybox", ["true"])
        own_engine.kill()
        shutil.rmtree(own_engine.root / "containers" / fresh.id)
        own_engine.start()
        fresh.start()
        assert fresh.wait()["StatusCode"] == 0
        fresh.remove()
