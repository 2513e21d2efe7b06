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
    """``stages`` are those that are needed, in the Dockerfile's order, the target last. ``args`` are the ARGs before the first
    FROM, with their values."""

    dockerfile: i.Dockerfile
    stages: tuple[PlannedStage, ...]
    args: Mapping[str, str]

    @property
    def target(self) -> PlannedStage:
        return self.stages[-1]

    def named(self, name: str, before: int) -> PlannedStage | None:
        """The needed stage of that name or number before the one with the index ``before``."""
        index = _find(self.dockerfile, name, before)
        return next((one for one in self.stages if one.index == index), None)


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
    needed = _needed(stages, index, {**request.contexts})
    return Plan(dockerfile, tuple(one for one in stages if one.index in needed), args)


def _stages(dockerfile: i.Dockerfile, args: Mapping[str, str]) -> list[PlannedStage]:
    planned: list[PlannedStage] = []
    for index, stage in enumerate(dockerfile.stages):
        base = stage.base
        image = expand_text(base.image, args, dockerfile.escape)
        if not image:
            raise BadDockerfile(f"base name ({base.image}) should not be blank", location=base.location)
        earlier = [one.index for one in planned if one.stage.name and one.stage.name == image.lower()]
        shown = ""
        if len(dockerfile.stages) > 1:
            shown = f"{stage.name or f'stage-{index}'} "
        platform = expand_text(base.platform, args, dockerfile.escape) if base.platform else ""
        planned.append(PlannedStage(index, stage, earlier[-1] if earlier else None, image, platform, shown))
    return planned


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


def _needed(stages: Sequence[PlannedStage], target: int, contexts: Mapping[str, str]) -> set[int]:
    needed, ahead = set[int](), [target]
    while ahead:
        index = ahead.pop()
        if index in needed:
            continue
        needed.add(index)
        one = stages[index]
        if one.stage.name in contexts:
            continue
        if one.base is not None:
            ahead.append(one.base)
        for name in sources(one.stage):
            found = next(
                (s.index for s in reversed(stages[:index]) if s.stage.name and s.stage.name == name.lower()), None
            )
            if found is None and name.isascii() and name.isdigit() and int(name) < index:
                found = int(name)
            if found is not None:
                ahead.append(found)
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
