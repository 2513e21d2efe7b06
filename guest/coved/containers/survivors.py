"""What an earlier engine left running: its shims, found again and held against what is on record of their containers.

An engine may be killed between a step and the note of it. Whatever has happened to a container's processes by then
holds: a container that was started runs, though nobody has noted that, and one that was not started never existed.
"""

from __future__ import annotations

import logging

from coved.containers.container import Container
from coved.containers.registry import Registry
from coved.runtime.errors import RuntimeFailure
from coved.runtime.shim_client import ShimClient
from coved.runtime.spawner_client import SpawnerClient

log = logging.getLogger(__name__)


class Survivors:
    """Gives containers their shims back."""

    def __init__(self, registry: Registry, spawner: SpawnerClient) -> None:
        self._registry = registry
        self._spawner = spawner

    async def find(self) -> None:
        """Connects to all shims there are. What was killed, and what belongs to nobody, is taken away with its processes."""
        left = self._spawner.shims()
        for container in self._registry:
            if container.id in left:
                left.discard(container.id)
                await self._find(container)
        for id in left:
            shim = await self._reconnect(id)
            if shim is not None:
                await self._take_away(shim)

    async def _find(self, container: Container) -> None:
        shim = await self._reconnect(container.id)
        if shim is None:
            return
        if not container.state.running:
            exit = shim.exits.get("")
            if not shim.started or (exit is not None and exit.exited_at_ns == container.state.finished_at):
                await self._take_away(shim)
                return
            state = container.state
            state.status, state.started_at, state.error = "running", shim.started_at_ns, ""
            state.exit_code, state.oom_killed = 0, False
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
            return await self._spawner.reconnect(id)
        except RuntimeFailure as error:  # one that does not answer must not keep the others from the engine
            log.error("container %s is given up: %s", id[:12], error)
            return None

    async def _take_away(self, shim: ShimClient) -> None:
        try:
            await shim.delete()
        except RuntimeFailure as error:
            log.warning("the shim of container %s: %s", shim.container_id[:12], error)
            shim.close()
