"""A container's end, when what has to be done about it fails: it has ended all the same, and can be started again."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from coved.containers.container import NS, Container
from coved.containers.ending import Endings
from coved.containers.mountpoints import MountPoint
from coved.runtime.spec import Exit
from lives import made, shim

STEPS = ("close", "discard", "halt", "forget", "save", "publish")


class Engine:
    """All that an end asks for, in the order in which it was asked for; one of it fails."""

    def __init__(self, failing: str) -> None:
        self._failing = failing
        self.done: list[str] = []

    def _do(self, step: str) -> None:
        self.done.append(step)
        if step == self._failing:
            raise OSError(f"no {step} today")

    @property
    def sandboxes(self) -> Engine:
        return self

    async def close(self, container_id: str) -> None:
        self._do("close")

    async def discard(self, shim: Any) -> None:
        self._do("discard")

    async def halt(self, container: Container) -> None:
        self._do("halt")

    def forget(self, container_id: str, *, ended: bool) -> None:
        self._do("forget")

    def save(self, container: Container, *, lasting: bool = True) -> None:
        self._do("save")

    def publish(self, *event: Any) -> None:
        self._do("publish")


def container_with(policy: str) -> Container:
    one = made("web", "running", policy)
    one.mounts = [MountPoint(kind="volume", source="v", destination="/v")]
    one.shim = shim()
    return one


@pytest.mark.parametrize("jump", [-86400, 86400])
def test_an_age_is_none_of_the_clocks_that_jump(monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    container = container_with("no")
    container.state.started_at = time.time_ns() - 5 * NS
    assert 5 * NS <= container.age_ns() < 60 * NS
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + jump * NS)
    assert 5 * NS <= container.age_ns() < 60 * NS


def test_one_that_is_to_start_yet_by_the_clock_has_just_started() -> None:
    container = container_with("no")
    container.state.started_at = time.time_ns() + 3600 * NS
    assert container.age_ns() == 0


@pytest.mark.parametrize("policy", ["no", "always"])
@pytest.mark.parametrize("failing", STEPS)
def test_whatever_fails_the_container_has_ended(failing: str, policy: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    async def scenario() -> None:
        engine: Any = Engine(failing)
        started = asyncio.Event()

        async def start_again(container: Container) -> None:
            started.set()

        async def remove(container: Container) -> None:
            raise AssertionError("nobody asked for that")

        endings = Endings(
            registry=engine, launcher=engine, execs=engine, networks=engine, probes=engine, events=engine,
            start_again=start_again, remove=remove,
        )  # fmt: skip
        container = container_with(policy)
        waiter = asyncio.get_running_loop().create_future()
        container.exit_waiters.add(waiter)
        endings.on_exit(container, "", Exit(7, False, 2 * NS))
        async with asyncio.timeout(10):
            assert (await waiter).code == 7
            assert container.ending is None
            assert container.shim is None
            assert set(engine.done) == set(STEPS)
            if policy == "always":
                assert container.state.status == "restarting"
                await started.wait()
            else:
                assert container.state.status == "exited"

    asyncio.run(scenario())
    assert f"no {failing} today" in caplog.text
