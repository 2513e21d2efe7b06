"""A boot gets more time where many programs wait for each processor, and no more than three times as much."""

from __future__ import annotations

import os

import pytest
from cove.agent import vm


@pytest.mark.parametrize(
    ("load", "cpus", "times"),
    [(0.1, 2, 1.0), (4.0, 2, 1.0), (8.0, 2, 2.0), (20.0, 2, 3.0), (400.0, 2, 3.0), (16.0, 8, 1.0), (32.0, 8, 2.0)],
)
def test_a_busy_computer_gives_a_boot_more_time(
    monkeypatch: pytest.MonkeyPatch, load: float, cpus: int, times: float
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert vm._patience() == times
