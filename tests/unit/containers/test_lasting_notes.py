"""What is noted of a container before anybody is told, and whether that waits for the disk: where something depends on it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from coved.containers.container import NS, Container
from coved.runtime.spec import Exit
from lives import life_of, made, shim


class Engine:
    """Notes down what is saved; everything else succeeds."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.on_exit: Any = None
        self.saved: list[tuple[str, bool]] = []
        self.linked = self.proxies_and_certificates = self.links = self.sandboxes = self

    def get(self, reference: str) -> Container:
        return self.container

    def save(self, container: Container, *, lasting: bool = True) -> None:
        self.saved.append((container.state.status, lasting))

    async def start(self, container: Container, attach: Any, on_exit: Any) -> None:
        container.shim, container.state.status, container.state.started_at = shim(), "running", NS
        self.on_exit = on_exit

    async def close(self, container_id: str) -> None:
        pass

    async def discard(self, shim: Any) -> None:
        pass

    def forget(self, container_id: str, *, ended: bool) -> None:
        pass

    def publish(self, *event: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("policy", "auto_remove", "start_lasts", "end_lasts"),
    [("no", False, False, True), ("no", True, False, False), ("on-failure", False, True, True)],
)
def test_what_waits_for_the_disk(policy: str, auto_remove: bool, start_lasts: bool, end_lasts: bool) -> None:
    container = made(policy=policy, auto_remove=auto_remove)
    removed: list[Container] = []

    async def remove(container: Container) -> None:
        removed.append(container)

    async def scenario() -> Engine:
        engine: Any = Engine(container)
        one = life_of(engine, remove)
        await one.start("web")
        waiter = await one.wait("web", "next-exit")
        engine.on_exit("", Exit(0, False, 2 * NS))
        async with asyncio.timeout(10):
            await waiter
        return engine

    engine = asyncio.run(scenario())
    assert engine.saved == [("running", start_lasts), ("exited", end_lasts)]
    assert removed == [container] * auto_remove
