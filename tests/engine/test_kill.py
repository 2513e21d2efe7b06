"""Nothing is lost: engine, spawner and shims are killed at random moments under load, and a journal says what must be there.

The long form: ``COVE_KILLS=200 COVE_KILL_SEED=7 pytest tests/engine/test_kill.py -s``. The same seed gives the same schedule
of requests and kills, though not the same interleaving.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kill_run import Run, machine_load

KILLS = int(os.environ.get("COVE_KILLS", "20"))
SEED = int(os.environ.get("COVE_KILL_SEED", "1"))

pytestmark = [pytest.mark.root, pytest.mark.timeout(120 + 15 * KILLS)]


def test_nothing_is_lost(engine_with: Callable[..., Any], tmp_path: Path) -> None:
    with engine_with() as engine:
        run = Run(engine, SEED, tmp_path / "journal")
        try:
            tally = run.run(KILLS)
        finally:
            run.close()
            if keep := os.environ.get("COVE_KILL_KEEP"):
                Path(keep).write_bytes((tmp_path / "journal").read_bytes())
                Path(f"{keep}.log").write_bytes((engine.folder / "log").read_bytes())
            print(f"\nseed {SEED}, load of the machine {machine_load()}\n{run.tally.table()}")
    assert not tally.wrong, "\n".join(tally.wrong)
    # A second, of a machine that has its processors for this: on a busy one each takes part of the time.
    assert statistics.median(tally.to_list) < max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert tally.memory_kib < 80 * 1024
