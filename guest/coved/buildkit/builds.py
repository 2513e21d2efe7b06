"""Builds by the names that their clients give them (``Ref``). What belongs to one comes in any order, on any connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from coved.build.builder import Builder
from coved.build.request import Result
from coved.buildkit import attributes
from coved.buildkit.arrivals import Arrivals
from coved.buildkit.messages import Definition, ReturnRequest, SolveRequest
from coved.buildkit.session import BuildClient
from coved.buildkit.sessions import Sessions
from coved.buildkit.status import StatusLog
from coved.errors import Conflict, InvalidParameter
from coved.grpc.status import Code, GrpcError

LINGER_S = 20.0
"""How long one can be asked about a build that has ended."""
DOCKERFILE = "dockerfile.v0"


class Build:
    def __init__(self, solve: SolveRequest, sessions: Sessions, builder: Builder) -> None:
        self.solve = solve
        self.log = StatusLog()
        self.returned: asyncio.Future[ReturnRequest] = asyncio.get_running_loop().create_future()
        """What the client says of the result that it was given."""
        self.created_ns = time.time_ns()
        self.completed_ns = 0
        self._sessions = sessions
        self._builder = builder
        self._running: set[asyncio.Task[Result]] = set()
        self._result = Result()
        self.error: BaseException | None = None

    async def run(self, frontend: str, options: Mapping[str, str], inputs: Mapping[str, Definition]) -> Result:
        """Carries it out; ends with the task that asked for it, or with the build. Raises EngineError, GrpcError."""
        if frontend != DOCKERFILE:
            text = f"failed to find frontend {frontend}" if frontend else "builds without a frontend are not supported"
            raise GrpcError(Code.UNKNOWN, text)
        task = asyncio.get_running_loop().create_task(self._run(options, inputs))
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            # Unlike awaiting the task itself, this passes no cancellation on: the task is to be cancelled once.
            await asyncio.wait([task])
        except asyncio.CancelledError:
            _cancel(task)
            await asyncio.wait([task])
            raise
        try:
            self._result = task.result()
        except Exception as error:
            self.error = error
            raise
        self.error = None
        return self._result

    def _ended(self, task: asyncio.Task[Result]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # of a build that was given up, nobody asks for it

    async def _run(self, options: Mapping[str, str], inputs: Mapping[str, Definition]) -> Result:
        asked = attributes.read(self.solve, options, inputs)
        session = await self._sessions.get(self.solve.session)
        others = {name: await self._sessions.get(id) for name, id in asked.sessions.items() if id != session.id}
        client = BuildClient(session, upload=asked.upload, names=asked.names, others=others)
        return await self._builder.build(asked.request, client, self.log)

    def responses(self) -> dict[str, str]:
        """What the exporters answer."""
        result = self._result
        if not result.image_id:
            return {}
        found = {"containerimage.config.digest": result.image_id, "containerimage.digest": result.image_id}
        if result.names:
            found["image.name"] = ",".join(result.names)
        return found

    async def end(self) -> None:
        """Cancels what is still running; whoever listens hears the end."""
        for task in self._running:
            _cancel(task)
        if self._running:
            await asyncio.wait([*self._running])
        self.completed_ns = time.time_ns()
        if not self.returned.done():
            self.returned.cancel()
        self.log.end()


def _cancel(task: asyncio.Task[Result]) -> None:
    """Once: a second time would tear what it does at its end."""
    if not task.cancelling():
        task.cancel()


class Builds:
    def __init__(self, sessions: Sessions, builder: Builder) -> None:
        self._sessions = sessions
        self._builder = builder
        self._there: Arrivals[Build] = Arrivals("no such job {}")
        self._endings: set[asyncio.Task[None]] = set()

    async def begin(self, solve: SolveRequest) -> Build:
        """Raises Conflict, InvalidParameter."""
        if not solve.ref:
            raise InvalidParameter("a build needs a ref")
        if solve.ref in self._there:
            raise Conflict(f"job ID {solve.ref} exists")
        build = Build(solve, self._sessions, self._builder)
        await self._there.add(solve.ref, build)
        return build

    async def end(self, build: Build) -> None:
        """Goes on when whoever waits for it is cancelled: a client that is gone must not end the ending."""
        ending = asyncio.get_running_loop().create_task(self._end(build))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        await asyncio.shield(ending)

    async def _end(self, build: Build) -> None:
        await build.end()
        asyncio.get_running_loop().call_later(LINGER_S, self._there.remove, build.solve.ref, build)

    async def get(self, ref: str) -> Build:
        """Waits for it for a while; raises NotFound after that."""
        return await self._there.get(ref)

    def all(self) -> list[Build]:
        return self._there.all()
