"""The datapath on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from coved.errors import EngineError
from coved.networks.datapath import Datapath
from coved.networks.model import Endpoint

T = TypeVar("T")


class Kernel:
    """One thread: the kernel's calls block, and a thread that visits another namespace must do nothing else meanwhile.

    Beside it one for bridges and pairs that are taken down, which takes tens of milliseconds: nobody waits for that.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "networks")
        self._slow = ThreadPoolExecutor(1, "bridges")
        self._datapath: Datapath | None = None

    async def open(self, namespaces: Path, table: str, uplink: str = "", beside: bool = False) -> None:
        """Must have returned before anything else is asked for. Raises EngineError; the text says what is missing."""
        try:
            self._datapath = await self.run(Datapath, namespaces, table, uplink, beside)
        except EngineError as error:
            raise EngineError(f"cannot set up container networking: {error}; it needs root") from None

    async def close(self) -> None:
        """What is in the kernel stays as it is."""
        if self._datapath is not None:
            await self.run(self._datapath.close)
            self._datapath = None
        self._slow.shutdown()
        self._thread.shutdown()

    @property
    def datapath(self) -> Datapath:
        """Its methods are for ``run``. Raises EngineError before ``open``."""
        if self._datapath is None:
            raise EngineError("the engine's networks are not started")
        return self._datapath

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """What a method of the datapath gives. Raises EngineError for what the kernel refuses."""
        return await self.result(self.submit(function, *arguments))

    def submit(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """It comes before all that is asked for later; ``result`` waits for it."""
        return asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *arguments))

    async def drop_bridge(self, name: str) -> None:
        """What else is asked for goes on meanwhile. Raises EngineError."""
        await self._aside(self.datapath.drop_bridge_aside, name)

    async def drop_pairs(self, endpoints: Sequence[Endpoint]) -> None:
        """The same of what is left of these endpoints' pairs."""
        await self._aside(self.datapath.drop_pairs_aside, endpoints)

    async def _aside(self, function: Callable[..., object], *arguments: Any) -> None:
        await self.result(asyncio.get_running_loop().run_in_executor(self._slow, partial(function, *arguments)))

    async def result(self, call: asyncio.Future[T]) -> T:
        """Of what was submitted, as ``run`` gives it."""
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            # The thread cannot be interrupted; whoever undoes its work must come after it, which the one thread ensures.
            call.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        except OSError as error:
            raise EngineError(f"{error.strerror or error}") from error
