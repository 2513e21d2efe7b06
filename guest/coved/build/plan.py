"""Which stages a build needs, and what each is based on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coved.build.errors import BadDockerfile
from coved.build.request import Request
from coved.dockerfile import instructions as i
from coved.dockerfile import predefined
from coved.dockerfile.expansion import expand_text
from coved.images import platforms
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

    def named(self, name: str, by: int) -> int | None:
        """The stage that another, with the index ``by``, names. What triggers of its base image name is known late: that can be
        an earlier stage only, and one that is needed anyway."""
        if (found := self.sources[by].get(name)) is not None:
            return found
        for one in reversed(self.stages):
            if one.index < by and ((one.stage.name and one.stage.name == name.lower()) or str(one.index) == name):
                return one.index
        return None


def plan(dockerfile: i.Dockerfile, request: Request, target: Platform) -> Plan:
    """Raises BadDockerfile, DockerfileError."""
    native = Platform("linux", platforms.architecture())
    given = {name: value for name, value in request.build_args.items() if value is not None}
    args = predefined.arguments(str(native), str(target), request.target, given)
    for declared in dockerfile.meta_args:
        for name, default in declared.pairs:
            if name in given:
                args[name] = given[name]
            elif default is not None:
                args[name] = expand_text(default, args, dockerfile.escape)
    stages = _stages(dockerfile, args)
    index = _target(dockerfile, request.target)
    sources = _sources(stages, request)
    needed = _needed(stages, sources, index, request)
    return Plan(dockerfile, tuple(one for one in stages if one.index in needed), args, stages[index], sources)


def _stages(dockerfile: i.Dockerfile, args: Mapping[str, str]) -> list[PlannedStage]:
    planned: list[PlannedStage] = []
    named: dict[str, int] = {}
    for index, stage in enumerate(dockerfile.stages):
        base = stage.base
        image = expand_text(base.image, args, dockerfile.escape)
        if not image:
            raise BadDockerfile(f"base name ({base.image}) should not be blank", location=base.location)
        shown = ""
        if len(dockerfile.stages) > 1:
            shown = f"{stage.name or f'stage-{index}'} "
        platform = expand_text(base.platform, args, dockerfile.escape) if base.platform else ""
        planned.append(PlannedStage(index, stage, named.get(image.lower()), image, platform, shown))
        if stage.name:
            named[stage.name] = index
    return planned


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
    """Of each stage, the stages that it copies or mounts from, by the names that it has for them. For BuildKit those may come
    later. Raises BadDockerfile."""
    names: dict[str, int] = {}
    if not request.in_order:
        names = {one.stage.name: one.index for one in stages if one.stage.name}
    found = []
    for one in stages:
        of: dict[str, int] = {}
        for name in sources(one.stage):
            index = names.get(name.lower())
            if index is None and (number := _number(name)) is not None and name not in request.contexts:
                index = number
                if not request.in_order and index >= len(stages):
                    raise BadDockerfile(f"invalid stage index {name}", location=one.stage.base.location)
                if request.in_order and index >= one.index:
                    wrong = "refers to current build stage" if index == one.index else "index out of bounds"
                    raise BadDockerfile(f"invalid from flag value {name}: {wrong}", location=one.stage.base.location)
            if index is not None and name not in request.contexts:
                of[name] = index
        found.append(of)
        if request.in_order and one.stage.name:
            names[one.stage.name] = one.index
    return found


def _needed(
    stages: Sequence[PlannedStage], sources: Sequence[Mapping[str, int]], target: int, request: Request
) -> set[int]:
    """Raises BadDockerfile when a stage needs itself."""
    needed, under_way, ahead = set[int](), set[int](), [(target, False)]
    while ahead:
        index, done = ahead.pop()
        if done:
            under_way.discard(index)
            needed.add(index)
        elif index in under_way:
            one = stages[index].stage
            name = one.name or f"stage-{index}"
            raise BadDockerfile(f"circular dependency detected on stage: {name}", location=one.base.location)
        elif index not in needed:
            under_way.add(index)
            ahead.append((index, True))
            if stages[index].stage.name not in request.contexts:
                base = stages[index].base
                ahead += [
                    (one, False) for one in ({*sources[index].values()} | ({base} if base is not None else set()))
                ]
    return needed


def sources(stage: i.Stage) -> list[str]:
    """What a stage copies or mounts from: names of stages, images and contexts."""
    names = []
    for instruction in stage.instructions:
        if isinstance(instruction, i.Copy) and instruction.from_:
            names.append(instruction.from_)
        elif isinstance(instruction, i.Run):
            names += [mount.from_ for mount in instruction.mounts if mount.from_]
    return names
