"""A machine that does not run, and may seem to, with an engine that is a stand-in."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cove.machine import lifecycle
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from unix_engine import serve


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[MachinePaths]:
    folder = Path(tempfile.mkdtemp(prefix="cove-y", dir="/tmp"))  # short, for the paths of sockets
    for name in [name for name in os.environ if name.startswith(("COVE_", "DOCKER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COVE_HOME", str(folder))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder / "docker"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "xdg"))
    try:
        yield lifecycle.init("default")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def engine(paths: MachinePaths) -> Iterator[Callable[[Callable[[socket.socket], None]], None]]:
    """Has the machine seem to run, with an engine that does what is given with each connection."""
    lock = FileLock(paths.vm_lock)
    assert lock.try_acquire()
    paths.make_run_dir()
    ends: list[Callable[[], None]] = []
    yield lambda behave: ends.append(serve(paths.docker_socket, behave))
    for end in ends:
        end()
    lock.release()
