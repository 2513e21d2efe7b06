"""Who starts or stops an engine on a host while another does, or while what a killed one has left is still there."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("the host is Linux", allow_module_level=True)

from coved.remote import __main__ as program
from coved.remote import traces
from coved.remote.places import BOOT_ID, KEPT, OF_THE_BOOT, PID, STREAMS, SYSTEM

NAME = "0123456789abcdef"
WAIT_S = 60.0


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> program.Folders:
    """Of a host in a folder; another process holds the lock."""
    monkeypatch.setattr(program, "HOST", str(tmp_path))
    monkeypatch.setattr(program, "TURN_S", 0.5)
    monkeypatch.setattr(traces, "clear", lambda *_: None)
    (tmp_path / KEPT.lstrip("/") / NAME).mkdir(parents=True)
    (tmp_path / OF_THE_BOOT.lstrip("/") / NAME).mkdir(parents=True)
    return program.Folders(NAME)


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait(WAIT_S)


@pytest.fixture
def held(folders: program.Folders) -> Iterator[int]:
    """The lock, while another has it."""
    lock = folders.lock()
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield lock
    os.close(lock)


def of_the_engine(monkeypatch: pytest.MonkeyPatch, *pids: int) -> None:
    monkeypatch.setattr(program, "_is_of", lambda name, pid: name == NAME and pid in pids)


def test_a_process_is_known_by_its_cgroup() -> None:
    assert not program._is_of(NAME, os.getpid())
    assert not program._is_of(NAME, 1 << 22)
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    if not (own := next((line for line in lines if line.startswith("0::")), "")):
        pytest.skip("no cgroup v2 here")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(program, "CGROUP", f"/sys/fs/cgroup/{own.rpartition('/')[2]}")
        assert program._is_of("", os.getpid())
        assert not program._is_of("x", os.getpid())


def test_who_has_the_number_of_a_killed_engine_is_not_ended(
    folders: program.Folders, held: int, other: subprocess.Popen[bytes]
) -> None:
    folders.tell(PID, str(other.pid))
    with pytest.raises(program.Failure, match="another command starts or stops the engine there"):
        program.stop(NAME, soon=False)
    assert other.poll() is None


def test_an_engine_is_ended_once_it_has_said_which_it_is(
    folders: program.Folders, held: int, other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "TURN_S", WAIT_S)
    folders.tell(PID, str(other.pid))
    of_the_engine(monkeypatch, other.pid)

    def ends() -> None:
        other.wait(WAIT_S)
        fcntl.flock(held, fcntl.LOCK_UN)

    waiting = threading.Thread(target=ends)
    waiting.start()
    assert program.stop(NAME, soon=False) == {}
    waiting.join(WAIT_S)
    assert other.returncode == -signal.SIGTERM


def starts(uid: int = 0) -> dict[str, Any]:
    return program.start(NAME, uid, uid, {}, "system-1")


def test_an_engine_that_does_not_answer_is_not_told_as_somebody_elses_command(
    folders: program.Folders, held: int, other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.tell(BOOT_ID, "b")
    folders.tell(PID, str(other.pid))
    of_the_engine(monkeypatch, other.pid)
    with pytest.raises(program.Failure, match="it runs there, and does not answer: cove machine restart"):
        starts()


@pytest.mark.root
def test_an_engine_that_runs_is_handed_to_who_logs_in(
    folders: program.Folders, held: int, other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in ((BOOT_ID, "b"), (SYSTEM, "/system-1"), (PID, str(other.pid)), (STREAMS, "")):
        folders.tell(name, text)
    of_the_engine(monkeypatch, other.pid)
    monkeypatch.setattr(program, "_answers", lambda path: f"/proc/{other.pid}/root/" in path)
    assert starts(65534) == {"boot_id": "b", "system": "/system-1", "began": False}
    assert (folders.state / STREAMS).stat().st_uid == 65534


def test_whoever_has_a_killed_engines_number_does_not_answer_for_it(
    folders: program.Folders, held: int, other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in ((BOOT_ID, "b"), (SYSTEM, "/system-1"), (PID, str(other.pid)), (STREAMS, "")):
        folders.tell(name, text)
    monkeypatch.setattr(program, "_answers", lambda path: True)
    with pytest.raises(program.Failure, match="another command starts or stops the engine there"):
        starts()
