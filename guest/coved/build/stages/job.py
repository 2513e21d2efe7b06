"""One build: its stages side by side, each waiting for those it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from coved.build.cache.snapshots import Draft, Snapshots
from coved.build.cache.steps import Step, Steps
from coved.build.client import Client
from coved.build.errors import BuildError
from coved.build.files.copier import Copier
from coved.build.orders import Files
from coved.build.progress import Progress
from coved.build.remote.git_url import is_elsewhere
from coved.build.remote.sources import Remote
from coved.build.request import Request
from coved.build.run.execution import Executor
from coved.build.stages.bases import Bases
from coved.build.stages.foundations import laid
from coved.build.stages.inputs import Inputs
from coved.build.stages.plan import SCRATCH, Plan, PlannedStage, context_of
from coved.build.stages.state import State
from coved.build.vertices import Doing, Vertices
from coved.dockerfile.instructions import Instruction
from coved.images import Image, platforms
from coved.images.documents import Platform

_LOCAL, _IMAGE = "local:", "docker-image://"

VALUES_MAX = 8 << 20
"""Characters in all that a build's ENV, ARG and LABEL set."""
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
    imported: Mapping[str, Step]
    """Steps by their keys that images tell of (``--cache-from``). They are for this build alone: who makes an image can say
    anything of how it was made. So what is made on them is noted for others by their contents: see ``State.stepped``."""
    used: list[str] = field(default_factory=list)
    """Keys of the steps that were found here."""
    _announced: int = 0
    _spent: int = 0
    _stages: dict[int, asyncio.Task[State]] = field(default_factory=dict)

    async def lay(self) -> None:
        """Looks for the images that stages are based on; what those want to be done belongs to the plan.

        Raises BadDockerfile that says where, BuildError.
        """
        if self.request.in_order:
            self.progress.step(1, self.plan.length, self.plan.stages[0].stage.base.source)
        try:
            self.plan = await laid(self.plan, self.request, self.platform, self.base)
        except BuildError as error:
            error.filename, error.text = self.inputs.filename, self.plan.dockerfile.text
            raise
        self.inputs.want(self.plan)
        if not self.request.in_order:  # the classic builder's clients have sent it
            self.inputs.ask()

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

    def spend(self, characters: int) -> None:
        """Values of variables and labels, which may be made of each other. Raises BuildError when it has become too much."""
        self._spent += characters
        if self._spent > VALUES_MAX:
            raise BuildError(f"variables and labels have more than {VALUES_MAX >> 20} MiB")

    def announce(self, instruction: Instruction) -> None:
        """An instruction's turn has come; the classic builder counts them all, but for its triggers."""
        if not self.request.in_order or any(instruction in one.triggers for one in self.plan.stages):
            return
        self._announced += 1
        if self._announced > 1:  # the first was told of before its image was looked for
            self.progress.step(self._announced, self.plan.length, instruction.source)

    async def stage(self, index: int) -> State:
        """The result of another stage, once it is there."""
        return await asyncio.shield(self._stages[index])

    async def base(self, planned: PlannedStage) -> Image | None:
        """The image that a stage is based on; None when a context stands for it that is no image."""
        name = planned.image
        if planned.context:
            if not planned.context.startswith(_IMAGE):
                return None
            name = planned.context.removeprefix(_IMAGE)
        return await self.bases.find(name, platforms.asked(planned.platform) if planned.platform else self._wanted)

    @property
    def _wanted(self) -> Platform | None:
        """What images are to be for. To the builder of before BuildKit whatever is here is right, unless it is told."""
        return None if self.request.in_order and not self.request.platforms else self.platform

    async def files(self, name: str, planned: PlannedStage) -> Files:
        """What ``--from`` or a mount's ``from`` names: a named context, another stage, or an image."""
        if context := context_of(self.request.contexts, name):
            return await self.context(name, context)
        other = self.plan.sources[planned.index].get(name)
        if other is not None:
            return Files(refs=(await self.stage(other)).refs)
        return await self._image(name)

    async def context(self, name: str, context: str) -> Files:
        """What a named context has (``--build-context name=context``)."""
        if context.startswith(_LOCAL):
            return await self.inputs.named(context.removeprefix(_LOCAL))
        if context.startswith(_IMAGE):
            return await self._image(context.removeprefix(_IMAGE))
        if not is_elsewhere(context):
            raise BuildError(f"unsupported context source {context.partition(':')[0]} for {name}")
        return await self.inputs.elsewhere(name, context)

    async def _image(self, name: str) -> Files:
        if name == SCRATCH:
            return Files()
        refs = tuple((await self.bases.find(name, self._wanted)).diff_ids)
        for ref in refs:
            self.hold(ref)
        return Files(refs=refs)

    async def step(
        self, key: str, parent: str, description: str, doing: Doing, work: Callable[[Draft], Awaitable[None]], *,
        cache: bool = True, same: bool = False, told: str = "",
    ) -> Step:  # fmt: skip
        """Carries out a step, or finds what it made before.

        Args:
            parent: what stands for the file system that it works on, which is in the key as well.
            same: it makes the same of the same.
            told: its key in what images tell of, when that is another (``State.told``).

        The step that is given has the key that images are to tell of.
        """
        told = told or key
        async with self.steps.turn(key):
            before = self.steps.find(key)
            found = before or self.imported.get(told)
            if found is not None and cache:
                doing.cached()
                self.progress.note(" ---> Using cache")
                self.hold(found.ref)
                if before is not None:
                    self.used.append(key)
                return replace(found, key=told)
            made: list[Step] = []

            def note(ref: str) -> None:
                made.append(self.steps.record(key, ref, parent, description, same=same, hold=self.hold))

            async with self.snapshots.draft() as draft:
                await work(draft)
                await self.snapshots.seal(draft, note)
            return replace(made[0], key=told)
