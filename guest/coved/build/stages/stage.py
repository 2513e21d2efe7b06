"""A stage of a Dockerfile: its instructions, one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from dataclasses import replace

from coved.build.cache.steps import key
from coved.build.errors import BuildError
from coved.build.stages import classic, config, copy_step, history, naming, run_step, state
from coved.build.stages.job import Job
from coved.build.stages.plan import SCRATCH, PlannedStage
from coved.build.stages.state import State
from coved.build.vertices import Doing
from coved.dockerfile import instructions as i
from coved.dockerfile.expansion import expand, expand_text, expand_title
from coved.dockerfile.instructions import DockerfileError
from coved.errors import EngineError

PROXIES = frozenset(
    name
    for lower in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    for name in (lower, lower.upper())
)
"""Build arguments that need no ARG, and that are no part of what a step is."""
_AT_ONCE_S = 0.002
_MAKES_A_STEP = (i.Run, i.Copy, i.Workdir)


async def build(job: Job, planned: PlannedStage) -> State:
    """Raises BuildError that says where in the Dockerfile."""
    return await Stage(job, planned).run()


class Stage:
    """One stage being built."""

    def __init__(self, job: Job, planned: PlannedStage) -> None:
        self._job = job
        self._planned = planned
        self._stage = planned.stage
        self._escape = job.plan.dockerfile.escape
        self._cache = not (job.request.no_cache or self._stage.name in job.request.no_cache_stages)
        self._has_cmd = False
        self._number = 0
        self._total = sum(isinstance(one, _MAKES_A_STEP) for one in self._planned.instructions)
        self._shown = planned.shown
        if len(job.request.platforms) > 1:
            self._shown = f"{job.platform} {self._shown}"

    async def run(self) -> State:
        now = await self._within(self._stage.base, self._based())
        self._job.progress.note(f" ---> {now.key[:12]}")
        now = replace(now, config={name: value for name, value in now.config.items() if name != "OnBuild"})
        if self._job.request.in_order:
            now = replace(now, comment="")
        rested = time.monotonic()
        for instruction in self._planned.instructions:
            # Many have nothing to wait for, and the engine has others to serve.
            if time.monotonic() - rested > _AT_ONCE_S:
                await asyncio.sleep(0)
                rested = time.monotonic()
            self._job.announce(instruction)
            now = await self._within(instruction, self._follow(now, instruction))
            self._job.progress.note(f" ---> {now.key[:12]}")
        if self._job.request.in_order and self._planned is self._job.plan.target:
            classic.check(now, self._job.request)
        return now

    async def _within(self, instruction: i.Instruction, work: Awaitable[State]) -> State:
        """What fails within an instruction says so."""
        dockerfile = self._job.plan.dockerfile
        try:
            return await work
        except BuildError as error:
            if self._job.request.in_order:
                classic.reword(error, instruction)
            if error.location is None:
                error.location = instruction.location
            error.filename, error.text = error.filename or self._job.inputs.filename, error.text or dockerfile.text
            raise
        except (DockerfileError, EngineError) as error:
            raise BuildError(
                str(error), location=instruction.location, filename=self._job.inputs.filename, text=dockerfile.text
            ) from error

    # -- FROM

    async def _based(self) -> State:
        job, planned = self._job, self._planned
        job.announce(self._stage.base)
        if planned.base is not None:
            base = await job.stage(planned.base)
            return replace(base, args={}) if job.request.in_order else base  # which inherits ARGs for BuildKit alone
        if not planned.context and planned.image == SCRATCH:
            return classic.nothing(state.of_nothing()) if job.request.in_order else state.of_nothing()
        image = await job.base(planned)
        if image is None:
            return await copy_step.start(self, await job.context(planned.image, planned.context))
        for layer in image.diff_ids:
            job.hold(layer)
        self._total += 1
        with self.doing(f"FROM {naming.shown(planned.image)}") as doing:
            doing.cached()
        return state.of_image(image)

    # -- the others

    async def _follow(self, now: State, written: i.Instruction) -> State:
        if isinstance(written, i.Arg):
            return self._declare(now, written)
        instruction = expand(written, now.environment, self._escape)
        if isinstance(instruction, i.Env | i.Label):
            self._job.spend(sum(len(name) + len(value) for name, value in instruction.pairs))
        match instruction:
            case i.Run():
                return await run_step.run(self, now, instruction, self._title(written, now, command=True))
            case i.Copy():
                return await copy_step.add(self, now, instruction, self._title(written, now))
            case i.Workdir():
                return await copy_step.make_directory(self, now, instruction, self._title(written, now))
            case i.Maintainer():
                now = replace(now, author=instruction.name)
        self._consider(now, instruction)
        changed = config.apply(now.config, instruction)
        if isinstance(instruction, i.Cmd):
            self._has_cmd = True
        elif isinstance(instruction, i.Entrypoint) and not self._has_cmd:
            changed.pop("Cmd", None)  # it was meant for another program
        if self._job.request.in_order:
            changed = classic.configured(changed, instruction)
        words = history.of_configuration(instruction, changed, classic=self._job.request.in_order)
        return now.with_config(changed) if words is None else now.configured(changed, words)

    def _title(self, instruction: i.Instruction, now: State, *, command: bool = False) -> str:
        title = " ".join(expand_title(instruction.source, now.environment, self._escape, command=command).split())
        _, _, rest = instruction.source.partition("\n")
        return f"{title} ({' '.join(rest.partition(chr(10))[0].split())}...)" if rest else title

    def _declare(self, now: State, arg: i.Arg) -> State:
        given, args, told = self._job.request.build_args, dict(now.args), list[tuple[str, str | None]]()
        classic_words = self._job.request.in_order
        for name, default in arg.pairs:
            value = given.get(name)
            preset = default
            if default is not None and (value is None or classic_words):
                preset = expand_text(default, {**args, **config.environment(now.config)}, self._escape)
            if value is None:
                value = preset
            if value is None:
                value = self._job.plan.args.get(name)
            if value is not None:
                args[name] = value
            self._job.spend(len(value or ""))
            told.append((name, preset if classic_words else value))
        self._consider(now, arg)
        words = history.of_arguments(told, now.config, classic=classic_words)
        return replace(now, args=args).configured(now.config, words)

    def _consider(self, now: State, instruction: i.Instruction) -> None:
        """Instructions that change no files are steps for the classic builder, which tells of each whether it was known."""
        if not self._job.request.in_order:
            return
        one = key("config", now.key, instruction.source, [*now.args.items()])
        if self._cache and self._job.steps.find(one) is not None:
            self._job.progress.note(" ---> Using cache")
        else:
            self._job.steps.record(one, "", now.key, instruction.source, same=True, hold=self._job.hold)

    # -- for the modules that carry out instructions

    @property
    def job(self) -> Job:
        return self._job

    @property
    def planned(self) -> PlannedStage:
        return self._planned

    @property
    def cache(self) -> bool:
        return self._cache

    @property
    def proxies(self) -> dict[str, str]:
        """Proxies of the engine and of the client, which RUN sees although no ARG has declared them."""
        request = self._job.request
        return {
            **request.proxies,
            **{name: value for name, value in request.build_args.items() if name in PROXIES and value},
        }

    def doing(self, what: str) -> AbstractContextManager[Doing]:
        """The stage's next step."""
        self._number += 1
        return self._job.vertices.doing(f"[{self._shown}{self._number}/{self._total}] {what}")
