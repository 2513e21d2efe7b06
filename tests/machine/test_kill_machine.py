"""Nothing is lost in a real VM: QEMU is killed under load, in a machine that goes on engine, supervisor, spawner and shims, and
QEMU and the agent while a machine falls asleep and wakes.

The long form: ``COVE_QEMU_KILLS=50 COVE_KILL_SEED=7 pytest tests/machine/test_kill_machine.py -s``; ``COVE_KILLS`` and
``COVE_SLEEP_KILLS`` are of the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

QEMU_KILLS = int(os.environ.get("COVE_QEMU_KILLS", "1"))
KILLS = int(os.environ.get("COVE_KILLS", "6"))
SLEEP_KILLS = int(os.environ.get("COVE_SLEEP_KILLS", "2"))
SEED = int(os.environ.get("COVE_KILL_SEED", "1"))

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600 + 90 * (QEMU_KILLS + KILLS + SLEEP_KILLS))]


@pytest.fixture
def engine(own_machine: Any) -> Iterator[Any]:
    """The own machine's, with busybox and nothing else; the run before has removed all."""
    from busybox_image import import_busybox
    from engines import VmEngine

    client = docker.DockerClient(own_machine.docker_host, timeout=60)
    for image in client.images.list():
        client.images.remove(image.id, force=True)
    client.close()
    import_busybox(own_machine.docker_host)
    made = VmEngine(own_machine)
    yield made
    made.close()


def tally_of(run: Any, kills: int, journal: Path) -> Any:
    from kill_run import machine_load

    try:
        return run.run(kills)
    finally:
        run.close()
        if keep := os.environ.get("COVE_KILL_KEEP"):
            Path(keep).write_bytes(journal.read_bytes())
        print(f"\nseed {SEED}, load of the machine {machine_load()}\n{run.tally.table()}")


def test_nothing_acknowledged_is_lost_when_qemu_is_killed(own_machine: Any, engine: Any, tmp_path: Path) -> None:
    from kill_qemu import QemuRun

    tally = tally_of(QemuRun(own_machine, engine, SEED, tmp_path / "journal"), QEMU_KILLS, tmp_path / "journal")
    assert not tally.wrong, "\n".join(tally.wrong)
    own_machine.check_console()


def test_nothing_is_lost_when_parts_of_the_engine_are_killed(own_machine: Any, engine: Any, tmp_path: Path) -> None:
    from kill_look import VmLook
    from kill_run import Run

    run = Run(engine, VmLook(own_machine), SEED, tmp_path / "journal", first_port=26000)
    tally = tally_of(run, KILLS, tmp_path / "journal")
    assert not tally.wrong, "\n".join(tally.wrong)
    own_machine.check_console()


def test_nothing_is_lost_or_done_twice_when_a_machine_is_killed_as_it_sleeps_and_wakes(
    own_machine: Any, engine: Any
) -> None:
    from kill_asleep import SleepRun

    run = SleepRun(own_machine, SEED)
    try:
        for _ in range(SLEEP_KILLS):
            run.round()
    finally:
        print(f"\nseed {SEED}: {dict(run.ends)}")
