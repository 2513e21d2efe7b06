"""A machine that seems to run: what it has is an engine on this computer (root). For what needs no VM: it is there in seconds."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from busybox_image import import_busybox
from cove.machine import lifecycle
from cove.machine.locks import FileLock
from engines import Engine
from machine_support import Machine


@contextlib.contextmanager
def native_machine() -> Iterator[Machine]:
    home = Path(tempfile.mkdtemp(prefix="cove-n", dir="/tmp"))
    (home / "user").mkdir()
    made = Machine(home)
    folder = home / "engine"
    folder.mkdir()
    engine = Engine(folder)
    try:
        engine.start()
        import_busybox(engine.url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COVE_HOME", str(home))
            paths = lifecycle.init("default")
            paths.make_run_dir()
            running = FileLock(paths.vm_lock)
            assert running.try_acquire()
            paths.docker_socket.symlink_to(engine.socket)
        try:
            yield made
        finally:
            made.cove("uninstall", "--keep-data", "--force", check=False)  # its dashboard ends
            running.release()
    finally:
        engine.close()
        shutil.rmtree(home, ignore_errors=True)
