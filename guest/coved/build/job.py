"""One build: its stages side by side, each waiting for those it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from coved.build.bases import Bases
from coved.build.client import Client
from coved.build.copier import Copier
from coved.build.errors import BuildError
from coved.build.execution import Executor
from coved.build.git_url import is_elsewhere
from coved.build.inputs import Inputs
from coved.build.orders import Files
from coved.build.plan import Plan, PlannedStage
from coved.build.progress import Progress
from coved.build.remote import Remote
from coved.build.request import Request
from coved.build.snapshots import Draft, Snapshots
from coved.build.state import State
from coved.build.steps import Step, Steps
from coved.build.vertices import Doing, Vertices
from coved.images.documents import Platform

BuildStage = Callable[["Job", PlannedStage], Coroutine[Any, Any, State]]


@dataclass
class Job:
    """What the stages of one build for one platform share."""

    request: Request
    plan: Plan
    platform: Platform
    client: Client
    progress: Progress
    vertices: Vertices
    inputs: Inputs
    bases: Bases
    snapshots: Snapshots
    steps: Steps
    remote: Remote
    hold: Callable[[str], None]
    """Keeps a layer or a snapshot until the build has ended."""
    executor: Executor
    copier: Copier
    build_stage: BuildStage
    used: list[str] = field(default_factory=list)
    """Keys of the steps that were found."""
    args_used: set[str] = field(default_factory=set)
    """Names of the build arguments that some ARG has declared."""
    _announced: int = 0
    _stages: dict[int, asyncio.Task[State]] = field(default_factory=dict)

    async def run(self) -> State:
        """All stages that are needed; gives the target's. What fails ends the others."""
        loop = asyncio.get_running_loop()
        try:
            for planned in self.plan.stages:
                task = self._stages[planned.index] = loop.create_task(self.build_stage(self, planned))
                if self.request.in_order:
                    await task
            await asyncio.wait(self._stages.values(), return_when=asyncio.FIRST_EXCEPTION)
            for task in self._stages.values():
                if task.done():
                    task.result()  # raises what the first of them to fail, by the Dockerfile's order, has raised
            return self._stages[self.plan.target.index].result()
        finally:
            for task in self._stages.values():
                task.cancel()
            await asyncio.gather(*self._stages.values(), return_exceptions=True)

    def announce(self, source: str) -> None:
        """An instruction's turn has come; the classic builder counts them all."""
        if self.request.in_order:
            self._announced += 1
            total = sum(1 + len(one.stage.instructions) for one in self.plan.stages)
            self.progress.step(self._announced, total, source)

    async def stage(self, index: int) -> State:
        """The result of an earlier stage, once it is there."""
        return await asyncio.shield(self._stages[index])

    async def files(self, name: str, planned: PlannedStage) -> Files:
        """What ``--from`` or a mount's ``from`` names: a named context, an earlier stage, or an image."""
        named = self.request.contexts.get(name, "")
        if named.startswith("local:"):
            return await self.inputs.named(named.removeprefix("local:"))
        earlier = self.plan.named(name, planned.index) if not named else None
        if earlier is not None:
            return Files(refs=(await self.stage(earlier.index)).refs)
        image = named.removeprefix("docker-image://") if named else name
        if named and is_elsewhere(image):
            with self.vertices.doing(f"[context {name}] load from {named}") as doing:
                fetched = await self.remote.context(named, doing, named=True)
            return Files(fetched.path, key=fetched.key)
        if "://" in image:
            raise BuildError(f"context {name}: there is no way to {named}")
        if image == "scratch":
            return Files()
        refs = tuple((await self.bases.find(image, self.platform)).diff_ids)
        for ref in refs:
            self.hold(ref)
        return Files(refs=refs)

    async def step(
        self, key: str, parent: str, description: str, doing: Doing, work: Callable[[Draft], Awaitable[None]], *,
        cache: bool = True,
    ) -> Step:  # fmt: skip
        """Carries out a step, or finds what it made before."""
        async with self.steps.turn(key):
            before = self.steps.find(key)
            if before is not None and cache:
                doing.cached()
                self.progress.note(" ---> Using cache")
                self.hold(before.ref)
                self.used.append(key)
                return before
            async with self.snapshots.draft() as draft:
                await work(draft)
                ref = await self.snapshots.seal(draft)
            self.hold(ref)
            step = self.steps.record(key, ref, parent, description)
            if before is not None and before.ref not in ("", ref) and not self.steps.is_held(before.ref):
                await self.snapshots.remove([before.ref])
            return step
