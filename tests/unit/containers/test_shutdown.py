"""The engine's shutdown: it takes no longer than it may, whatever a container does."""

from __future__ import annotations

import asyncio
import logging
import signal
from types import SimpleNamespace
from typing import Any

import pytest
import virtual_time
from coved.containers import life
from coved.containers.config import Request
from coved.containers.container import Container, State
from coved.containers.life import Life
from coved.errors import EngineError, Unavailable
from lives import life_of


class Shim:
    """Ends its container at the signal ``ends_at``; any other has no effect. ``silent`` answers nothing."""

    def __init__(self, ends_at: int, *, silent: bool = False) -> None:
        self.ends_at = ends_at
        self.silent = silent
        self.told: list[int] = []
        self.container: Any = None

    async def kill(self, number: int, *, all: bool = False) -> None:
        self.told.append(number)
        if self.silent:
            await asyncio.Event().wait()
        if number == self.ends_at:
            self.container.state.status = "exited"
            self.container.wake()


def running(shim: Shim, number: int) -> Container:
    config = {"Labels": {}, "StopTimeout": 600, "StopSignal": ""}
    made = Container(f"{number}" * 64, "x", "sha256:0", "busybox", Request(config, {}, ()), [], 0, State("running"))
    made.shim = shim  # type: ignore[assignment]
    shim.container = made
    return made


def made(registry: Any) -> Life:
    nothing: Any = SimpleNamespace(publish=lambda *words: None, linked=None, proxies_and_certificates=None)
    return life_of(nothing, lambda container: asyncio.sleep(0), registry=registry)


def shut_down(shims: list[Shim], timeout_s: float) -> float:
    """How long it took, by the loop's clock."""
    registry = [running(shim, number) for number, shim in enumerate(shims)]

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await made(registry).shutdown(timeout_s)
        took = loop.time() - started
        if others := asyncio.all_tasks() - {asyncio.current_task()}:  # those that have just been cancelled
            assert (await asyncio.wait(others, timeout=1))[1] == set()
        return took

    return virtual_time.run(scenario())


def test_those_that_end_by_themselves_are_not_waited_for() -> None:
    assert shut_down([Shim(signal.SIGTERM), Shim(signal.SIGTERM)], 60) < 10


def test_those_that_do_not_are_killed_within_the_time() -> None:
    shim = Shim(signal.SIGKILL)
    assert shut_down([shim], 1) < 0.9
    assert shim.told == [signal.SIGTERM, signal.SIGKILL]


@pytest.mark.parametrize("silent", [False, True])
def test_one_that_cannot_be_ended_holds_up_nothing(silent: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert life.KILL_S > 10
    other = Shim(signal.SIGTERM)
    assert 0.9 < shut_down([Shim(0, silent=silent), other], 1) < 3
    assert other.told == [signal.SIGTERM]
    assert "container 000000000000 did not end within 1 s" in caplog.text


def test_a_stop_that_fails_is_told(caplog: pytest.LogCaptureFixture) -> None:
    shim = Shim(signal.SIGTERM)
    shim.kill = refuse  # type: ignore[method-assign]
    assert shut_down([shim], 5) < 4
    assert "stopping container 000000000000: no" in caplog.text


def test_nothing_is_started_any_more() -> None:
    async def scenario() -> None:
        container = running(Shim(signal.SIGTERM), 1)
        container.state.status, container.stopped_by_user = "exited", True

        class Registry(list[Container]):
            def get(self, reference: str) -> Container:
                return self[0]

        one = made(Registry([container]))
        await one.shutdown(1)
        with pytest.raises(Unavailable, match="the engine is shutting down"):
            await one.start("x")
        with pytest.raises(EngineError, match="Cannot restart container x: the engine is shutting down"):
            await one.restart("x")
        assert container.stopped_by_user  # as it was

    asyncio.run(scenario())


def test_an_end_that_does_not_come_to_its_end_holds_up_no_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "LAST_S", 0.2)
    closed = []

    async def scenario() -> None:
        shim: Any = SimpleNamespace(close=lambda: closed.append(True))
        container = running(shim, 1)
        container.ending = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
        async with asyncio.timeout(30):
            await made([container]).close()
        container.ending.cancel()

    asyncio.run(scenario())
    assert closed == [True]


async def refuse(number: int, *, all: bool = False) -> None:
    raise EngineError("no")
