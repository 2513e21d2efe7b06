"""The outline of a build's target: what it, and the stages that it needs, would be given."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from coved.build.stages.plan import Plan, PlannedStage
from coved.dockerfile import instructions as i
from coved.dockerfile import predefined
from coved.dockerfile.expansion import Expander, expand
from coved.dockerfile.outline import Argument, Outline, Wanted, description

EnvironmentOf = Callable[[PlannedStage], Mapping[str, str]]


@dataclass
class _Stage:
    """``args`` with what each default is made of; ``used`` are the names that count."""

    args: dict[str, tuple[Argument, frozenset[str]]]
    used: set[str]
    environment: dict[str, str]
    """ARG's part of it, and ENV's."""
    variables: dict[str, str]
    secrets: dict[str, Wanted] = field(default_factory=dict)
    agents: dict[str, Wanted] = field(default_factory=dict)


def outline(plan: Plan, given: Mapping[str, str], environment_of: EnvironmentOf) -> Outline:
    """As moby/buildkit's dockerfile2llb/outline.go has it.

    Args:
        given: build arguments.
        environment_of: the ENV of the image that a stage is based on.

    Raises DockerfileError.
    """
    declared = _declared(plan, given)
    stages: dict[int, _Stage] = {}
    for planned in plan.stages:
        on = stages.get(planned.base) if planned.base is not None else None
        used = Expander(plan.args, plan.dockerfile.escape)
        for text in (planned.stage.base.image, planned.stage.base.platform):
            used.text(text)
        found = _Stage(
            dict(declared),
            used.used,
            dict(on.environment) if on else {},
            dict(on.variables if on else environment_of(planned)),
        )
        for instruction in planned.instructions:
            _follow(instruction, found, plan, given)
        stages[planned.index] = found
    arguments, secrets, agents = dict[str, Argument](), dict[str, Wanted](), dict[str, Wanted]()
    for found in _reached(plan, stages):
        for name in _all_used(found):
            if name in found.args:
                arguments.setdefault(name, found.args[name][0])
        secrets = {**found.secrets, **secrets}
        agents = {**found.agents, **agents}
    target = plan.target.stage
    return Outline(
        plan.dockerfile.text,
        target.name,
        description(target.base, target.name),
        sorted(arguments.values(), key=lambda one: (one.location.first, one.name)),
        *(sorted(every.values(), key=lambda one: (one.location.first, one.name)) for every in (secrets, agents)),
    )


def _declared(plan: Plan, given: Mapping[str, str]) -> dict[str, tuple[Argument, frozenset[str]]]:
    """The arguments before the first FROM."""
    found: dict[str, tuple[Argument, frozenset[str]]] = {}
    before = {name: value for name, value in plan.args.items() if name in predefined.arguments("", "", "")}
    for arg in plan.dockerfile.meta_args:
        for name, default in arg.pairs:
            value, made_of = given.get(name), frozenset[str]()
            if value is None and default is not None:
                expander = Expander(before, plan.dockerfile.escape)
                value = expander.text(default)
                made_of = frozenset(expander.used - {name})
                if name in expander.used and name in found:
                    made_of |= found[name][1]
            if value is not None:
                before[name] = value
            found[name] = (Argument(name, value or "", description(arg, name), arg.location), made_of)
    return found


def _follow(written: i.Instruction, stage: _Stage, plan: Plan, given: Mapping[str, str]) -> None:
    escape = plan.dockerfile.escape
    if isinstance(written, i.Arg):
        for name, default in written.pairs:
            value = given.get(name)
            if value is None and default is not None:
                value = Expander({**stage.environment, **stage.variables}, escape).text(default)
            inherited = value is None and name in plan.args
            if inherited:
                value = plan.args[name]
            if value is not None and name not in predefined.WITHOUT_ENVIRONMENT:
                stage.environment[name] = value
            if not inherited:
                told = Argument(name, value or "", description(written, name), written.location)
                stage.args[name] = (told, frozenset())
            stage.used.add(name)
        return
    if not isinstance(written, i.Env | i.Run):
        return
    instruction = expand(written, {**stage.environment, **stage.variables}, escape)
    if isinstance(instruction, i.Env):
        stage.variables.update(instruction.pairs)
    elif isinstance(instruction, i.Run):
        for mount in instruction.mounts:
            if mount.kind == "secret":
                id = mount.source or mount.id or posixpath.basename(mount.target)
                stage.secrets.setdefault(id, Wanted(id, mount.required, written.location))
            elif mount.kind == "ssh":
                id = mount.id or "default"
                stage.agents.setdefault(id, Wanted(id, mount.required, written.location))


def _reached(plan: Plan, stages: Mapping[int, _Stage]) -> Iterator[_Stage]:
    """The target, what it is based on, and what it copies or mounts from."""
    based = {one.index: one.base for one in plan.stages}
    ahead, seen = [plan.target.index], set[int]()
    while ahead:
        index = ahead.pop()
        if index in seen or index not in stages:
            continue
        seen.add(index)
        yield stages[index]
        ahead += reversed([*plan.sources[index].values()])
        if (base := based[index]) is not None:
            ahead.append(base)


def _all_used(stage: _Stage) -> set[str]:
    """With what the defaults of those that are used are made of."""
    found, ahead = set[str](), [*stage.used]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += stage.args[name][1] if name in stage.args else ()
    return found
