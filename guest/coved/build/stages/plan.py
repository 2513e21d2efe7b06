"""Which stages a build needs, and what each is based on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from coved.build.errors import BadDockerfile
from coved.build.request import Request
from coved.dockerfile import instructions as i
from coved.dockerfile import predefined
from coved.dockerfile.expansion import expand_text
from coved.dockerfile.parser import parse_instruction
from coved.errors import InvalidParameter
from coved.images import platforms, reference
from coved.images.documents import Platform

SCRATCH = "scratch"


@dataclass(frozen=True)
class PlannedStage:
    """``index`` counts all stages of the Dockerfile from 0. ``base`` is an earlier one's, or None: then it is ``image``."""

    index: int
    stage: i.Stage
    base: int | None
    image: str
    platform: str
    """As FROM asks for it; "" is the build's."""
    shown: str
    """What steps are told with, such as "build " or "stage-0 "; "" when there is but one stage."""
    context: str = ""
    """The named context that stands for the base, or for the whole stage."""
    replaced: bool = False
    """The context stands for the whole stage: its instructions are not followed."""
    triggers: tuple[i.Instruction, ...] = ()
    """ONBUILD of what it is based on."""

    @property
    def instructions(self) -> tuple[i.Instruction, ...]:
        return () if self.replaced else (*self.triggers, *self.stage.instructions)

    @property
    def is_on_image(self) -> bool:
        return self.base is None and self.image != SCRATCH


@dataclass(frozen=True)
class Plan:
    """``stages`` are those that are needed, in the Dockerfile's order. ``args`` are the ARGs before the first FROM, with their
    values."""

    dockerfile: i.Dockerfile
    stages: tuple[PlannedStage, ...]
    args: Mapping[str, str]
    target: PlannedStage
    sources: Sequence[Mapping[str, int]]
    """By indexes, which stages a stage's ``--from`` and mounts name."""

    @cached_property
    def length(self) -> int:
        """How many instructions the classic builder counts."""
        return sum(1 + (0 if one.replaced else len(one.stage.instructions)) for one in self.stages)


Triggers = Mapping[int, Sequence[i.Instruction]]
"""By the index of the stage that they are for."""


def plan(dockerfile: i.Dockerfile, request: Request, target: Platform, triggers: Triggers = {}) -> Plan:  # noqa: B006
    """Raises BuildError, DockerfileError."""
    native = Platform("linux", platforms.architecture())
    given = {name: value for name, value in request.build_args.items() if value is not None}
    # The builder of before BuildKit knows no platforms' arguments.
    args = {} if request.in_order else predefined.arguments(str(native), str(target), request.target, given)
    for declared in dockerfile.meta_args:
        for name, default in declared.pairs:
            if name in given:
                args[name] = given[name]
            elif default is not None:
                args[name] = expand_text(default, args, dockerfile.escape)
    stages = _stages(dockerfile, args, request.contexts, triggers)
    sources = _sources(stages, request)
    index = _target(dockerfile, request.target)
    needed = _needed(stages, sources, index)
    for one in stages:
        if one.index in needed:
            _check_order(one, sources[one.index])
    return Plan(dockerfile, tuple(one for one in stages if one.index in needed), args, stages[index], sources)


def context_of(contexts: Mapping[str, str], name: str) -> str:
    """The named context that stands for what is called so, or "": an image's tag "latest" need not be said."""
    if name in contexts:
        return contexts[name]
    try:
        return contexts.get(reference.parse(name).tagged().familiar.removesuffix(":latest"), "")
    except InvalidParameter:
        return ""


def _stages(
    dockerfile: i.Dockerfile, args: Mapping[str, str], contexts: Mapping[str, str], triggers: Triggers
) -> list[PlannedStage]:
    planned: list[PlannedStage] = []
    named: dict[str, int] = {}
    for index, stage in enumerate(dockerfile.stages):
        base = stage.base
        image = expand_text(base.image, args, dockerfile.escape)
        if not image:
            raise BadDockerfile(f"base name ({base.image}) should not be blank", location=base.location)
        shown = f"{stage.name or f'stage-{index}'} " if len(dockerfile.stages) > 1 else ""
        platform = expand_text(base.platform, args, dockerfile.escape) if base.platform else ""
        own = contexts.get(stage.name, "") if stage.name else ""
        context = own or context_of(contexts, image)
        on = None if context else named.get(image.lower())
        given = _own_triggers(planned[on], dockerfile) if on is not None else tuple(triggers.get(index, ()))
        planned.append(PlannedStage(index, stage, on, image, platform, shown, context, bool(own), given))
        if stage.name:
            named[stage.name] = index
    return planned


def _own_triggers(base: PlannedStage, dockerfile: i.Dockerfile) -> tuple[i.Instruction, ...]:
    """What the stage says with ONBUILD; of what it is based on it has done all."""
    found = [one for one in base.instructions if isinstance(one, i.Onbuild)]
    return tuple(parse_instruction(one.trigger, dockerfile.escape) for one in found)


def _find(dockerfile: i.Dockerfile, name: str) -> int | None:
    for index in range(len(dockerfile.stages) - 1, -1, -1):
        if dockerfile.stages[index].name and dockerfile.stages[index].name == name.lower():
            return index
    number = _number(name)
    return number if number is not None and number < len(dockerfile.stages) else None


def _number(name: str) -> int | None:
    return int(name) if name.isascii() and name.isdigit() and len(name) <= 9 else None


def _target(dockerfile: i.Dockerfile, name: str) -> int:
    if not name:
        return len(dockerfile.stages) - 1
    index = _find(dockerfile, name)
    if index is None:
        raise BadDockerfile(f'target stage "{name}" could not be found')
    return index


def _sources(stages: Sequence[PlannedStage], request: Request) -> list[dict[str, int]]:
    """Of each stage, the stages that it copies or mounts from, by the names that it has for them. For BuildKit those that come
    later are no images either. Raises BadDockerfile."""
    names: dict[str, int] = {}
    if not request.in_order:
        names = {one.stage.name: one.index for one in stages if one.stage.name}
    found = []
    for one in stages:
        of: dict[str, int] = {}
        for name, instruction in _names(one):
            if context_of(request.contexts, name):
                continue
            index = names.get(name.lower())
            if index is None and (index := _number(name)) is not None:
                if not request.in_order and index >= len(stages):
                    raise BadDockerfile(f"invalid stage index {name}", location=instruction.location)
                if request.in_order and index >= one.index:
                    wrong = "refers to current build stage" if index == one.index else "index out of bounds"
                    raise BadDockerfile(f"invalid from flag value {name}: {wrong}", location=instruction.location)
            if index is not None:
                of[name] = index
        found.append(of)
        if request.in_order and one.stage.name:
            names[one.stage.name] = one.index
    return found


def _needed(stages: Sequence[PlannedStage], sources: Sequence[Mapping[str, int]], target: int) -> set[int]:
    """Raises BadDockerfile when a stage needs itself."""
    needed, under_way, ahead = set[int](), set[int](), [(target, False)]
    while ahead:
        index, done = ahead.pop()
        one = stages[index]
        if done:
            under_way.discard(index)
            needed.add(index)
        elif index in under_way:
            name = one.stage.name or f"stage-{index}"
            raise BadDockerfile(f"circular dependency detected on stage: {name}", location=one.stage.base.location)
        elif index not in needed:
            under_way.add(index)
            others = {*sources[index].values()} | ({one.base} if one.base is not None else set())
            ahead += [(index, True), *((other, False) for other in others)]
    return needed


def _check_order(planned: PlannedStage, sources: Mapping[str, int]) -> None:
    """Raises BadDockerfile for what comes from a later stage."""
    own = planned.stage.name or f"stage-{planned.index}"
    for name, instruction in _names(planned):
        if sources.get(name, -1) > planned.index:
            said = f'cannot copy from stage "{name}", it needs to be defined before current stage "{own}"'
            if isinstance(instruction, i.Run):
                said = f'cannot mount from stage "{name}" to "{own}", stage needs to be defined before current command'
            raise BadDockerfile(said, location=instruction.location)


def _names(planned: PlannedStage) -> Iterator[tuple[str, i.Instruction]]:
    """What a stage copies or mounts from: stages, images and contexts; and where it says so."""
    for instruction in planned.instructions:
        if isinstance(instruction, i.Copy) and instruction.from_:
            yield instruction.from_, instruction
        elif isinstance(instruction, i.Run):
            yield from ((mount.from_, instruction) for mount in instruction.mounts if mount.from_)
