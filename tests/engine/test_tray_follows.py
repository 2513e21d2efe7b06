"""The tray before a real engine: containers as they come, change and go."""

from __future__ import annotations

import os
import queue
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cove.machine import lifecycle
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from cove.tray.containers import Container, Following

pytestmark = [pytest.mark.root, pytest.mark.native]

BOUND_S = 60.0


@pytest.fixture
def paths(native_engine: Any) -> Iterator[MachinePaths]:
    """Of a machine whose engine is this computer's."""
    folder = Path(tempfile.mkdtemp(prefix="cove-y", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("COVE_", "DOCKER_"))]:
            patch.delenv(name)
        patch.setenv("COVE_HOME", str(folder))
        patch.setenv("DOCKER_CONFIG", str(folder / "docker"))
        made = lifecycle.init("default")
        made.make_run_dir()
        with FileLock(made.vm_lock) as lock:
            assert lock.try_acquire()
            made.docker_socket.symlink_to(native_engine.socket)
            yield made
    shutil.rmtree(folder)


def test_a_container_is_told_of_when_it_comes_changes_and_goes(paths: MachinePaths, docker_client: Any) -> None:
    told: queue.Queue[Sequence[Container]] = queue.Queue()
    following = Following(paths, told.put)

    def until(state: str | None) -> None:
        while {each.name: each.state for each in told.get(timeout=BOUND_S)}.get("seen-in-the-tray") != state:
            pass

    told.get(timeout=BOUND_S)  # those of now: events are followed

    made = docker_client.containers.create("busybox", ["sleep", "1000"], name="seen-in-the-tray")
    try:
        until("created")
        made.start()
        until("running")
        made.pause()
        until("paused")
        made.unpause()
        until("running")
    finally:
        made.remove(force=True)
    until(None)
    following.end()
    following.wait()
