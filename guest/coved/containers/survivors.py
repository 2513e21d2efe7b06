"""What an earlier engine left running: its shims, found again and held against what is on record of their containers.

An engine may be killed between a step and the note of it. Whatever has happened to a container's processes by then
holds: a container that was started runs, though nobody has noted that, and one that was not started never existed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from coved.containers.container import Container
from coved.containers.ending import step
from coved.containers.registry import Registry
from coved.runtime.errors import RuntimeFailure
from coved.runtime.shim_client import ShimClient
from coved.runtime.spawner_client import SpawnerClient

log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""What a shim has for its first answer, all of them together: the engine's clients wait for it. One takes milliseconds."""


class Survivors:
    """Gives containers their shims back.

    Args:
        discard: takes a shim away with its processes.
    """

    def __init__(
        self, registry: Registry, spawner: SpawnerClient, discard: Callable[[ShimClient], Awaitable[None]]
    ) -> None:
        self._registry = registry
        self._spawner = spawner
        self._discard = discard

    async def find(self) -> None:
        """Connects to all shims there are. What was killed, does not answer, or belongs to nobody, is taken away with its
        processes."""
        ids = [*self._spawner.shims()]
        done = await asyncio.gather(*map(self._take_up, ids), return_exceptions=True)
        for id, error in zip(ids, done, strict=True):  # none must keep the others from the engine
            if error is not None:
                log.error("taking up container %s failed: %s", id[:12], error, exc_info=error)

    async def _take_up(self, id: str) -> None:
        shim = await self._reconnect(id)
        if shim is None:
            return
        container = self._registry.find(id)
        if container is None:
            await self._discard(shim)
            return
        if not container.state.running:
            exit = shim.exits.get("")
            if not shim.started or (exit is not None and exit.exited_at_ns == container.state.finished_at):
                await self._discard(shim)
                return
            state = container.state
            state.status, state.started_at, state.error = "running", shim.started_at_ns, ""
            state.exit_code, state.oom_killed = 0, False
            with step(container, "noting that it runs"):
                self._registry.save(container)
        container.shim = shim
        container.age_ns()
        await self._freeze(container, shim)

    async def _freeze(self, container: Container, shim: ShimClient) -> None:
        """As it is on record: the engine may have been killed while it paused, unpaused or copied it."""
        paused = container.state.status == "paused"
        if "" in shim.exits or shim.frozen == paused:
            return
        try:
            await (shim.pause() if paused else shim.resume())
        except RuntimeFailure as error:
            log.error("container %s: %s", container.short_id, error)

    async def _reconnect(self, id: str) -> ShimClient | None:
        try:
            return await self._spawner.reconnect(id, ANSWER_S)
        except RuntimeFailure as error:  # one that does not answer must not keep the others from the engine
            log.error("container %s is given up: %s", id[:12], error)
            return None
