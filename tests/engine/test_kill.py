"""Nothing is lost: engine, supervisor, spawner and shims are killed at random moments under load, and a journal says what must be there.

The long form: ``COVE_KILLS=200 COVE_KILL_SEED=7 pytest tests/engine/test_kill.py -s``. The same seed gives the same schedule
of requests and kills, though not the same interleaving.
"""

from __future__ import annotations

import os
import select
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from kill_look import Netns, processes
from kill_run import BACK_S, Run, machine_load

KILLS = int(os.environ.get("COVE_KILLS", "20"))
SEED = int(os.environ.get("COVE_KILL_SEED", "1"))

pytestmark = [pytest.mark.root, pytest.mark.timeout(120 + 15 * KILLS)]


def test_nothing_is_lost(engine_with: Callable[..., Any], tmp_path: Path) -> None:
    with engine_with() as engine:
        run = Run(engine, Netns(engine.namespace_pid), SEED, tmp_path / "journal")
        try:
            tally = run.run(KILLS)
        finally:
            run.close()
            if keep := os.environ.get("COVE_KILL_KEEP"):
                Path(keep).write_bytes((tmp_path / "journal").read_bytes())
                Path(f"{keep}.log").write_bytes((engine.folder / "log").read_bytes())
            print(f"\nseed {SEED}, load of the machine {machine_load()}\n{run.tally.table()}")
    assert not tally.wrong, "\n".join(tally.wrong)
    # Of a machine that has its processors for this: on a busy one each takes part of the time.
    assert statistics.median(tally.to_list) < BACK_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert tally.memory_kib < 80 * 1024


def test_a_start_waits_for_a_spawner_that_was_killed(own_engine: Any) -> None:
    client = docker.DockerClient(own_engine.url, timeout=60)
    try:
        client.containers.run("busybox", ["true"], remove=True)  # an engine answers before its spawner is there
        for _ in range(5):
            os.kill(_spawner(own_engine), signal.SIGKILL)
            assert client.containers.run("busybox", ["echo", "there"], remove=True) == b"there\n"
    finally:
        client.close()
    spawner = os.pidfd_open(_spawner(own_engine))
    try:
        own_engine.kill()  # and it leaves no spawner behind
        poll = select.poll()
        poll.register(spawner, select.POLLIN)
        assert poll.poll(10_000)
    finally:
        os.close(spawner)
        own_engine.start()


def _spawner(engine: Any) -> int:
    (pid,) = [pid for pid, name in processes(engine.state) if name == "cove-spawner"]
    return pid
