"""What a Dockerfile offers to whoever builds it: its targets, and the arguments, secrets and SSH agents of one of them
(``docker build --call=targets``, ``--call=outline``; moby/buildkit, frontend/subrequests).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coved.dockerfile.instructions import Dockerfile, Instruction, Location


@dataclass(frozen=True)
class Target:
    name: str
    """"" where FROM gives none."""
    description: str
    default: bool
    base: str
    platform: str
    """Both as they are written."""
    location: Location


@dataclass(frozen=True)
class Targets:
    text: str
    targets: Sequence[Target]


@dataclass(frozen=True)
class Argument:
    name: str
    value: str
    """What a build with the arguments that were given would have; "" for none."""
    description: str
    location: Location


@dataclass(frozen=True)
class Wanted:
    """A secret, or an SSH agent."""

    name: str
    required: bool
    location: Location


@dataclass(frozen=True)
class Outline:
    """In the Dockerfile's order."""

    text: str
    name: str
    description: str
    arguments: Sequence[Argument]
    secrets: Sequence[Wanted]
    agents: Sequence[Wanted]


def targets(dockerfile: Dockerfile) -> Targets:
    last = len(dockerfile.stages) - 1
    found = [
        Target(
            stage.name,
            description(stage.base, stage.name),
            number == last,
            stage.base.image,
            stage.base.platform,
            stage.base.location,
        )
        for number, stage in enumerate(dockerfile.stages)
    ]
    return Targets(dockerfile.text, found)


def description(instruction: Instruction, name: str) -> str:
    """What a comment above an instruction says of a name in it: ``# name description``."""
    if not name:
        return ""
    return next((one.removeprefix(f"{name} ") for one in instruction.comments if one.startswith(f"{name} ")), "")
