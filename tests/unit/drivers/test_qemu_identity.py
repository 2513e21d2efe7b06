"""A stale pid file must not get a stranger killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cove.drivers.qemu import driver as drivers
from cove.drivers.qemu.driver import QemuDriver
from cove.drivers.qemu.identity import is_qemu_of
from cove.errors import DriverError
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    script = "import sys; print(flush=True); sys.stdin.read()"
    running = subprocess.Popen([sys.executable, "-c", script, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.readline()
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def test_a_qemu_is_known_by_its_pid_file(tmp_path: Path) -> None:
    pid_file = tmp_path / "qemu.pid"
    with process("-pidfile", str(pid_file)) as qemu, process("-pidfile", f"{pid_file}.other") as other:
        assert is_qemu_of(qemu.pid, pid_file)
        assert not is_qemu_of(other.pid, pid_file)
    assert not is_qemu_of(qemu.pid, pid_file)
    assert not is_qemu_of(0, pid_file)
    assert not is_qemu_of(-1, pid_file)


def test_a_stranger_with_the_number_of_a_stale_pid_file_is_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COVE_HOME", str(tmp_path))
    monkeypatch.setattr(drivers, "KILL_TIMEOUT_S", 0.1)
    paths = MachinePaths("default")
    paths.folder.mkdir(parents=True)
    with process() as stranger, FileLock(paths.vm_lock) as lock:
        assert lock.try_acquire()
        (paths.folder / "qemu.pid").write_text(f"{stranger.pid}\n")
        with pytest.raises(DriverError, match="does not end"):
            asyncio.run(QemuDriver(paths).adopt())
        assert stranger.poll() is None
