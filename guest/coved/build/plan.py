"""Which stages a build needs, and what each is based on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """``stages`` are those that are needed, in the Dockerfile's order, the target last. ``args`` are the ARGs before the first
    FROM, with their values."""

    dockerfile: i.Dockerfile
    stages: tuple[PlannedStage, ...]
    args: Mapping[str, str]

    @property
    def target(self) -> PlannedStage:
        return self.stages[-1]

    @property
    def length(self) -> int:
        """How many instructions the classic builder counts."""
        return sum(1 + (0 if one.replaced else len(one.stage.instructions)) for one in self.stages)

    def named(self, name: str, before: int) -> PlannedStage | None:
        """The needed stage of that name or number before the one with the index ``before``."""
        index = _find(self.dockerfile, name, before)
        return next((one for one in self.stages if one.index == index), None)


Triggers = Mapping[int, Sequence[i.Instruction]]
"""By the index of the stage that they are for."""


def plan(dockerfile: i.Dockerfile, request: Request, target: Platform, triggers: Triggers = {}) -> Plan:  # noqa: B006
    """Raises BuildError, DockerfileError."""
    native = Platform("linux", platforms.architecture())
    given = {name: value for name, value in request.build_args.items() if value is not None}
    args = predefined.arguments(str(native), str(target), request.target, given)
    for declared in dockerfile.meta_args:
        for name, default in declared.pairs:
            if name in given:
                args[name] = given[name]
            elif default is not None:
                args[name] = expand_text(default, args, dockerfile.escape)
    stages = _stages(dockerfile, args, request.contexts, triggers)
    needed = _needed(dockerfile, stages, _target(dockerfile, request.target))
    return Plan(dockerfile, tuple(one for one in stages if one.index in needed), args)


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
    for index, stage in enumerate(dockerfile.stages):
        base = stage.base
        image = expand_text(base.image, args, dockerfile.escape)
        if not image:
            raise BadDockerfile(f"base name ({base.image}) should not be blank", location=base.location)
        earlier = [one.index for one in planned if one.stage.name and one.stage.name == image.lower()]
        shown = f"{stage.name or f'stage-{index}'} " if len(dockerfile.stages) > 1 else ""
        platform = expand_text(base.platform, args, dockerfile.escape) if base.platform else ""
        own = contexts.get(stage.name, "") if stage.name else ""
        context = own or context_of(contexts, image)
        on = earlier[-1] if earlier and not context else None
        given = _own_triggers(planned[on], dockerfile) if on is not None else tuple(triggers.get(index, ()))
        planned.append(PlannedStage(index, stage, on, image, platform, shown, context, bool(own), given))
    return planned


def _own_triggers(base: PlannedStage, dockerfile: i.Dockerfile) -> tuple[i.Instruction, ...]:
    """What the stage says with ONBUILD; of what it is based on it has done all."""
    found = [one for one in base.instructions if isinstance(one, i.Onbuild)]
    return tuple(parse_instruction(one.trigger, dockerfile.escape) for one in found)


def _find(dockerfile: i.Dockerfile, name: str, before: int) -> int | None:
    earlier: list[int] = [*range(min(before, len(dockerfile.stages)))]
    for index in reversed(earlier):
        if dockerfile.stages[index].name and dockerfile.stages[index].name == name.lower():
            return index
    if name.isascii() and name.isdigit() and int(name) in earlier:
        return int(name)
    return None


def _target(dockerfile: i.Dockerfile, name: str) -> int:
    if not name:
        return len(dockerfile.stages) - 1
    index = _find(dockerfile, name, len(dockerfile.stages))
    if index is None:
        raise BadDockerfile(f'target stage "{name}" could not be found')
    return index


def _needed(dockerfile: i.Dockerfile, stages: Sequence[PlannedStage], target: int) -> set[int]:
    needed, ahead = set[int](), [target]
    while ahead:
        index = ahead.pop()
        if index in needed:
            continue
        needed.add(index)
        one = stages[index]
        if one.base is not None:
            ahead.append(one.base)
        found = [_find(dockerfile, name, index) for name in _sources(one)]
        ahead += [source for source in found if source is not None and not stages[source].replaced]
    return needed


def _sources(planned: PlannedStage) -> list[str]:
    """What a stage copies or mounts from: names of stages, images and contexts."""
    names = []
    for instruction in planned.instructions:
        if isinstance(instruction, i.Copy) and instruction.from_:
            names.append(instruction.from_)
        elif isinstance(instruction, i.Run):
            names += [mount.from_ for mount in instruction.mounts if mount.from_]
    return names
