"""An engine's start, when something is wrong with single containers: it comes up, and does what it can for each."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from coved.containers.container import NS, Container
from coved.errors import no_space
from lives import life_of, made, shim


class Full:
    """A registry that there is no room for, and all else that a start asks for."""

    def __init__(self, containers: list[Container], alive: Container, folder: Path) -> None:
        self._containers = containers
        self._shim = shim(started_at_ns=NS, exits={}, execs={}, frozen=False, oom_killed=True)
        self._alive = alive
        self._folder = folder
        self._started: set[str] = set()
        self.both = asyncio.Event()
        self.linked = self.proxies_and_certificates = self.links = self

    def __iter__(self) -> Any:
        return iter(self._containers)

    def find(self, id: str) -> Container | None:
        return next((one for one in self._containers if one.id == id), None)

    def of(self, id: str) -> dict[str, Any]:
        return {}

    def save(self, container: Container, *, lasting: bool = True) -> None:
        raise no_space("the disk")

    def shims(self) -> list[str]:
        return ["f" * 64, self._alive.id]

    async def reconnect(self, id: str, timeout_s: float) -> Any:
        if id != self._alive.id:
            raise OSError("that shim's socket is no socket")
        return self._shim

    def exit_file(self, container: Container) -> Path:
        return self._folder / "none"

    def adopt(self, container: Container) -> None:
        pass

    def publish(self, *event: Any) -> None:
        pass

    async def found(self, containers: Any) -> None:
        assert [one.id for one in containers] == [self._alive.id]

    async def start(self, container: Any, *more: Any) -> None:
        if isinstance(container, Container):
            self._started.add(container.name)
            if self._started == {"waits", "ran"}:
                self.both.set()
            raise OSError("that is far enough")


def test_a_container_that_cannot_be_noted_or_removed_keeps_no_engine_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    alive, waits, ran = (
        made("alive", "created"),
        made("waits", "restarting", "always"),
        made("ran", "running", "always"),
    )
    others = [made("going", "removing"), made("over", "exited", auto_remove=True), made("left", "exited")]
    engine: Any = Full([*others, alive, waits, ran], alive, tmp_path)
    removed = []

    async def remove(container: Container) -> None:
        removed.append(container.name)
        raise OSError("its files are not to be had")

    async def scenario() -> None:
        one = life_of(engine, remove)
        await one.restore()
        async with asyncio.timeout(10):
            await one.settle(10)
            await engine.both.wait()

    asyncio.run(scenario())
    assert removed == ["going", "over"]
    assert alive.shim is not None and alive.state.status == "running" and alive.state.oom_killed
