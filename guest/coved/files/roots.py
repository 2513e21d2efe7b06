"""The roots of containers, opened for those who look into their files from outside.

All who look at a running container share its mounts, and all who look at one that does not run share one mount of its
overlay, so that nobody waits for anybody else's client.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

from coved.containers import Container, Containers, spec, userns
from coved.containers.files_turn import Place
from coved.errors import EngineError
from coved.finishing import to_the_end
from coved.runtime import mounts, view
from coved.runtime.ids import Ids
from coved.runtime.shim_client import ShimClient
from coved.runtime.view import View

T = TypeVar("T")


class Roots:
    """Opens them in worker threads."""

    def __init__(self, containers: Containers, workers: Executor) -> None:
        self._containers = containers
        self._workers = workers
        self._shared: dict[str, _Shared] = {}

    @contextlib.asynccontextmanager
    async def opened(self, container: Container, *, alone: bool = False) -> AsyncIterator[tuple[View, Place]]:
        """Args: alone: without what is mounted in it. Raises NotFound, EngineError."""
        dead: ShimClient | None = None
        while True:
            shim = _living(container, dead)
            async with container.files.among(shim) as place:
                self._containers.get(container.id)  # it may have been removed while this waited for its turn
                if _living(container, dead) is not shim:
                    continue
                async with contextlib.AsyncExitStack() as stack:
                    try:
                        if shim is None:
                            root = await self._of_layers(container, alone, stack)
                        else:
                            root = await self._of_process(container, shim, alone, stack)
                    except (OSError, mounts.MountError) as error:
                        if shim is not None and isinstance(error, (FileNotFoundError, ProcessLookupError)):
                            dead = shim  # it has ended just now
                            continue
                        raise EngineError(f"the files of container {container.id} cannot be opened: {error}") from None
                    yield root, place
                    return

    async def _of_process(
        self, container: Container, shim: ShimClient, alone: bool, stack: contextlib.AsyncExitStack
    ) -> View:
        # On disk files have the container's ids; its own mounts show them to the engine as they are on the machine.
        remap = self._containers.remap
        ids = Ids(remap if userns.applies(remap, container.host_config) else None)
        upper = self._containers.layout(container).upper
        root = await self.run(lambda: view.of_process(shim.pid, ids, upper=upper, alone=alone), undo=View.close)
        stack.push_async_callback(self.run, root.close)
        return root

    async def _of_layers(self, container: Container, alone: bool, stack: contextlib.AsyncExitStack) -> View:
        layout = self._containers.layout(container)

        def mount() -> View:
            layout.prepare()
            (overlay,) = spec.root_mount(layout)
            return view.of_layers(overlay, layout.directory / "view")

        if not alone:
            await stack.enter_async_context(self._containers.volumes_opened(container))
        shared = self._shared.setdefault(container.id, _Shared())
        shared.users += 1
        stack.push_async_callback(_to_the_end, self._give_back, container.id, shared)
        base = await shared.get(lambda: self.run(mount, undo=View.close))
        if alone:
            return base
        mounted = await self._containers.binds.there(container.mounts)
        files = self._containers.files_folder(container)

        def extend() -> View:
            # A tmpfs is empty then, and what a bind comes from may be gone.
            there = [(one, source) for one, source in mounted if source and Path(source, one.subpath).exists()]
            return view.with_mounts(
                base, spec.later_mounts(files, there, read_only=container.host_config["ReadonlyRootfs"])
            )

        root = await self.run(extend, undo=View.close)
        stack.push_async_callback(self.run, root.close)
        return root

    async def _give_back(self, container_id: str, shared: _Shared) -> None:
        shared.users -= 1
        async with shared.lock:
            if not shared.users and shared.view is not None:
                last, shared.view = shared.view, None
                await self.run(last.close)
        if not shared.users:  # nobody has come meanwhile
            self._shared.pop(container_id, None)

    async def run(
        self, function: Callable[..., T], *arguments: Any, undo: Callable[[T], object] = lambda result: None
    ) -> T:
        """In a worker thread. A caller that is cancelled waits for its end: it works on descriptors that the caller then
        closes, and what it has opened meanwhile is closed by ``undo``."""
        work = asyncio.get_running_loop().run_in_executor(self._workers, function, *arguments)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            if not work.cancelled() and work.exception() is None:
                undo(work.result())
            raise


class _Shared:
    """One mount of a container's overlay, as long as it has ``users``; those count who wait for it."""

    def __init__(self) -> None:
        self.users = 0
        self.lock = asyncio.Lock()
        self.view: View | None = None

    async def get(self, mount: Callable[[], Awaitable[View]]) -> View:
        async with self.lock:
            if self.view is None:
                self.view = await mount()
            return self.view


async def _to_the_end(work: Callable[..., Any], *arguments: Any) -> None:
    await to_the_end(work(*arguments))


def _living(container: Container, dead: ShimClient | None) -> ShimClient | None:
    """The shim of a container that runs, unless its process is known to have ended."""
    return container.shim if container.state.running and container.shim is not dead else None
