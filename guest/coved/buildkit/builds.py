"""Builds by the names that their clients give them (``Ref``). What belongs to one comes in any order, on any connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from coved.build.builder import Builder
from coved.build.request import Result
from coved.buildkit import attributes, records
from coved.buildkit.arrivals import Arrivals
from coved.buildkit.history import Entry, History
from coved.buildkit.messages import Definition, ReturnRequest, SolveRequest
from coved.buildkit.session import BuildClient
from coved.buildkit.sessions import Sessions
from coved.buildkit.status import StatusLog
from coved.errors import Conflict, InvalidParameter
from coved.grpc.status import Code, GrpcError, Status

LINGER_S = 20.0
"""How long one can be asked about a build that has ended."""
DOCKERFILE = "dockerfile.v0"


class Build:
    def __init__(self, solve: SolveRequest, sessions: Sessions, builder: Builder, history: History) -> None:
        self.solve = solve
        self.log = StatusLog()
        self.returned: asyncio.Future[ReturnRequest] = asyncio.get_running_loop().create_future()
        """What the client says of the result that it was given."""
        self._history = history
        self._entry: Entry | None = None
        """None for what is no build: clients ask what the engine can do, and what a Dockerfile has, in the same way."""
        self._sessions = sessions
        self._builder = builder
        self._running: set[asyncio.Task[Result]] = set()
        self._result = Result()
        self.error: BaseException | None = None

    def begin(self) -> None:
        """From now on the history has it, until ``end``."""
        solve = self.solve
        if solve.internal or "requestid" in solve.frontend_attrs:
            return
        exporters = attributes.exporters(solve)
        record = records.begun(solve.ref, solve.frontend, solve.frontend_attrs, exporters, time.time_ns())
        self._entry = self._history.begin(record, self.log)

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
        if self._entry is not None:
            self._entry.kept.context = session.context
        others = {name: await self._sessions.get(id) for name, id in asked.sessions.items() if id != session.id}
        client = BuildClient(session, upload=asked.upload, names=asked.names, others=others)
        return await self._builder.build(asked.request, client, self.log)

    def responses(self) -> dict[str, str]:
        """What the exporters answer."""
        return records.response(self._result)

    async def end(self, failure: BaseException | None) -> None:
        """Cancels what is still running; whoever listens hears the end. ``failure``: what ended it before its time."""
        for task in self._running:
            _cancel(task)
        if self._running:
            await asyncio.wait([*self._running])
        if not self.returned.done():
            self.returned.cancel()
        self.log.end()
        if self._entry is not None:
            self._history.end(self._entry, self._result, self._status(failure))

    def _status(self, failure: BaseException | None) -> Status | None:
        if failure is None:
            return None
        if isinstance(failure, asyncio.CancelledError):
            return records.canceled()
        failed = next((each.digest for each in self.log.steps.values() if each.error), "")
        return records.failure(self.error or failure, failed)


def _cancel(task: asyncio.Task[Result]) -> None:
    """Once: a second time would tear what it does at its end."""
    if not task.cancelling():
        task.cancel()


class Builds:
    def __init__(self, sessions: Sessions, builder: Builder, history: History) -> None:
        self._sessions = sessions
        self._builder = builder
        self._history = history
        self._there: Arrivals[Build] = Arrivals("no such job {}")
        self._endings: set[asyncio.Task[None]] = set()

    async def begin(self, solve: SolveRequest) -> Build:
        """Raises Conflict, InvalidParameter."""
        if not solve.ref:
            raise InvalidParameter("a build needs a ref")
        if solve.ref in self._there:
            raise Conflict(f"job ID {solve.ref} exists")
        build = Build(solve, self._sessions, self._builder, self._history)
        await self._there.add(solve.ref, build)
        build.begin()
        return build

    async def end(self, build: Build, failure: BaseException | None = None) -> None:
        """Goes on when whoever waits for it is cancelled: a client that is gone must not end the ending."""
        ending = asyncio.get_running_loop().create_task(self._end(build, failure))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        await asyncio.shield(ending)

    async def _end(self, build: Build, failure: BaseException | None) -> None:
        await build.end(failure)
        asyncio.get_running_loop().call_later(LINGER_S, self._there.remove, build.solve.ref, build)

    async def get(self, ref: str) -> Build:
        """Waits for it for a while; raises NotFound after that."""
        return await self._there.get(ref)

    def __contains__(self, ref: str) -> bool:
        return ref in self._there
