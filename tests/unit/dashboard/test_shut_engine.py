"""The way to the engine while the machine is to be suspended: a connection that comes late would wake it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cove.dashboard import engine as way
from cove.dashboard.engine import Engine
from cove.dashboard.refusal import Refused
from cove.machine.paths import MachinePaths

BOUND_S = 30.0


@pytest.fixture
def slow(engine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, ...]:
    """An engine whose connections take as long as a test wants: one has begun, it may go on, it is made."""
    engine(lambda client: client.recv(1))
    begun, free, connected = threading.Event(), threading.Event(), threading.Event()
    real = way.connect

    def connect(path: Path, timeout_s: float) -> Any:
        begun.set()
        assert free.wait(BOUND_S)
        made = real(path, timeout_s)
        connected.set()
        return made

    monkeypatch.setattr(way, "connect", connect)
    return begun, free, connected


def test_a_suspension_waits_for_who_connects_at_that_moment(
    paths: MachinePaths, slow: tuple[threading.Event, ...]
) -> None:
    begun, free, connected = slow

    async def run() -> None:
        door = Engine(paths)
        connecting = asyncio.ensure_future(door.connect())
        assert await asyncio.to_thread(begun.wait, BOUND_S)
        with door.shut():
            waiting = asyncio.ensure_future(asyncio.to_thread(door.wait_reached))
            free.set()
            await waiting
            assert connected.is_set()
            with pytest.raises(Refused) as refused:
                await connecting
        assert refused.value.more["machine"] == "suspending"

    asyncio.run(run())


def test_nobody_connects_while_it_is_shut(paths: MachinePaths, slow: tuple[threading.Event, ...]) -> None:
    begun, *_ = slow

    async def run() -> None:
        door = Engine(paths)
        with door.shut():
            assert door._reach() is None
            with pytest.raises(Refused):
                await door.connect()

    asyncio.run(run())
    assert not begun.is_set()
