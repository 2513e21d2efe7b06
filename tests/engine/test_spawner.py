"""The spawner of an engine outside the VM: it ends with its engine, and is there again when it ends alone."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from isolation_support import making
from life_support import eventually

pytestmark = [pytest.mark.root, pytest.mark.native]


@pytest.fixture
def engine(own_engine: Any) -> Any:
    """These tests look at its machine from within, and end things in it."""
    return own_engine


@pytest.fixture
def make(docker_client: Any) -> Iterator[Any]:
    with making(docker_client) as create:
        yield create


def spawners(engine: Any) -> list[int]:
    """Of this engine or an earlier one of its. What they have forked takes another name, an instant later."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name, words = (folder / "comm").read_text(), (folder / "cmdline").read_bytes()
            state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            if name == "cove-spawner\n" and str(engine.folder).encode() in words and state != "Z":
                found[int(folder.name)] = int(parent)
    return [pid for pid, parent in found.items() if parent not in found]


def spawner_of(engine: Any) -> int:
    """The one that there is, which a start does not wait for."""
    eventually(lambda: len(spawners(engine)) == 1)
    (pid,) = spawners(engine)
    return pid


def await_end(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(20_000), "it has not ended"
    os.close(pidfd)


def test_it_ends_with_a_killed_engine_and_containers_go_on(engine: Any, docker_client: Any, make: Any) -> None:
    container = make("sh", "-c", "while :; do date +%s%N > /beat; sleep 0.05; done")
    container.reload()
    init = container.attrs["State"]["Pid"]
    for _ in range(3):
        spawner = spawner_of(engine)
        ended = os.pidfd_open(spawner)
        engine.kill()
        try:
            await_end(ended)
            assert spawners(engine) == []
            beat = Path(f"/proc/{init}/root/beat")
            before = beat.stat().st_mtime_ns
            watched = os.pidfd_open(init)
            poll = select.poll()
            poll.register(watched, select.POLLIN)
            assert not poll.poll(500)  # half a second without an end
            os.close(watched)
            assert beat.stat().st_mtime_ns > before
        finally:
            engine.start()
        container.reload()
        assert (container.status, container.attrs["State"]["Pid"]) == ("running", init)
    spawner_of(engine)
    assert container.exec_run(["echo", "hi"]).output == b"hi\n"
    assert docker_client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"


def test_a_start_that_nobody_noted_is_noted_by_the_next_engine(engine: Any, docker_client: Any, make: Any) -> None:
    container = make("sleep", "300", start=False)
    with contextlib.closing(sqlite3.connect(engine.root / "metadata.db")) as database:
        query = "SELECT record FROM containers WHERE id = ?"
        (before,) = database.execute(query, (container.id,)).fetchone()
        container.start()
        container.reload()
        init = container.attrs["State"]["Pid"]
        engine.kill()
        try:
            # As if it had been killed between the start and the note of it.
            database.execute("UPDATE containers SET record = ? WHERE id = ?", (before, container.id))
            database.commit()
        finally:
            engine.start()
    container.reload()
    assert (container.status, container.attrs["State"]["Pid"]) == ("running", init)
    assert container.exec_run(["echo", "hi"]).output == b"hi\n"


def test_what_is_asked_while_it_is_away_waits_for_the_next(engine: Any, docker_client: Any, make: Any) -> None:
    container = make("sleep", "300")
    for _ in range(5):
        spawner = spawner_of(engine)
        ended = os.pidfd_open(spawner)
        os.kill(spawner, signal.SIGKILL)
        assert docker_client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
        await_end(ended)
        assert container.exec_run(["echo", "hi"]).output == b"hi\n"
        assert len(spawners(engine)) == 1
    container.reload()
    assert container.status == "running"


def test_killed_in_the_middle_of_work(engine: Any, docker_client: Any) -> None:
    def run(number: int) -> bytes:
        return bytes(docker_client.containers.run("busybox", ["echo", str(number)], remove=True))

    with ThreadPoolExecutor(4) as pool:
        results = [pool.submit(run, number) for number in range(60)]
        for result in results[::15]:
            result.result()
            for spawner in spawners(engine):
                os.kill(spawner, signal.SIGKILL)
        assert [result.result() for result in results] == [f"{number}\n".encode() for number in range(60)]


def test_a_second_engine_on_the_same_data_is_refused_and_harms_nothing(engine: Any, docker_client: Any) -> None:
    words = ["-m", "coved", "--root", str(engine.root), "--state", str(engine.folder / "run")]
    second = subprocess.run(
        [sys.executable, *words, "--socket", str(engine.folder / "other.sock")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (second.returncode, second.stderr) == (1, f"coved: another engine uses {engine.root}\n")
    assert len(spawners(engine)) == 1
    assert docker_client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_with_an_engine_that_is_stopped(engine: Any, number: signal.Signals) -> None:
    spawner = spawner_of(engine)
    ended = os.pidfd_open(spawner)
    engine.process.send_signal(number)
    assert engine.process.wait(30) == 0  # and all that belongs to an end is done
    await_end(ended)
    assert not (engine.folder / "run/spawner.sock").exists()
    engine.start()
    spawner_of(engine)


def test_one_that_does_not_listen_holds_up_no_end(engine: Any) -> None:
    spawner = spawner_of(engine)
    ended = os.pidfd_open(spawner)
    os.kill(spawner, signal.SIGSTOP)
    try:
        engine.process.send_signal(signal.SIGTERM)
        assert engine.process.wait(20) == 0
        await_end(ended)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(spawner, signal.SIGCONT)
    engine.start()
    spawner_of(engine)


def test_the_end_of_a_shim_is_seen_whatever_waits_to_be_the_next(docker_client: Any, make: Any) -> None:
    container = make("sleep", "1000")
    # No container comes after it: the spare that was forked for the next one must not hold what tells of this one's end.
    name = f"shim:{container.id[:10]}\n"
    (shim,) = (int(one.parent.name) for one in Path("/proc").glob("[0-9]*/comm") if _text(one) == name)
    os.kill(shim, signal.SIGKILL)
    assert container.wait(timeout=10)["StatusCode"] == 137


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
