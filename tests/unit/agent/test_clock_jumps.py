"""Jumps of this computer's clock."""

from __future__ import annotations

import asyncio
import time

import pytest
from cove.agent import clock


@pytest.mark.parametrize(("jump_s", "told"), [(0, 0), (0.02, 0), (0.2, 1), (-3600, 1)])
def test_a_jump_is_found_by_a_look_and_told_once(monkeypatch: pytest.MonkeyPatch, jump_s: float, told: int) -> None:
    async def work() -> None:
        jumps = 0

        def jumped() -> None:
            nonlocal jumps
            jumps += 1

        watching = clock.ClockJumps(jumped)
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + int(jump_s * 1e9))
        watching.look()
        watching.look()
        assert jumps == told
        watching.close()
        watching.close()

    asyncio.run(work())
