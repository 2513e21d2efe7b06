"""``--change`` of docker import and commit: Dockerfile instructions that set an image's defaults."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from coved.errors import InvalidParameter

if TYPE_CHECKING:
    from coved.dockerfile.instructions import Command, Healthcheck, Instruction

_ALLOWED = frozenset("CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR".split())
_SHELL = ["/bin/sh", "-c"]


def apply(config: dict[str, Any], changes: list[str], *, literal: bool = False) -> None:
    """Applies instructions to a container configuration, in order; raises ``InvalidParameter`` for one it cannot be.

    ``literal``: dollars stand for themselves, as in an image's history, whose variables are replaced already.
    """
    # Few images come to be this way.
    from coved.dockerfile.expansion import Expander
    from coved.dockerfile.instructions import DockerfileError
    from coved.dockerfile.parser import parse_changes

    text = "\n".join(changes)
    if not text.strip():
        return
    try:
        for instruction in parse_changes(text, _ALLOWED):
            environment = {} if literal else dict(item.partition("=")[::2] for item in config.get("Env") or [])
            expander = Expander(environment, keep_unset=literal)
            _apply_one(config, expander.instruction(instruction))
    except DockerfileError as error:
        raise InvalidParameter(str(error)) from None


def _apply_one(config: dict[str, Any], instruction: Instruction) -> None:
    """Raises ``DockerfileError``."""
    from coved.dockerfile import instructions as kinds
    from coved.dockerfile import ports

    match instruction:
        case kinds.Cmd():
            config["Cmd"] = _words(config, instruction.command)
        case kinds.Entrypoint():
            config["Entrypoint"] = _words(config, instruction.command)
        case kinds.Env():
            variables = {item.partition("=")[0]: item for item in config.get("Env") or []}
            config["Env"] = [*{**variables, **{name: f"{name}={value}" for name, value in instruction.pairs}}.values()]
        case kinds.Label():
            config["Labels"] = {**(config.get("Labels") or {}), **dict(instruction.pairs)}
        case kinds.Expose():
            exposed: dict[str, dict[str, Any]] = {name: {} for name in ports.names(instruction.ports)}
            config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **exposed}
        case kinds.Volume():
            config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in instruction.paths}}
        case kinds.Workdir():
            config["WorkingDir"] = _below(config.get("WorkingDir") or "/", instruction.path)
        case kinds.User():
            config["User"] = instruction.user
        case kinds.Stopsignal():
            config["StopSignal"] = instruction.signal
        case kinds.Healthcheck():
            config["Healthcheck"] = _healthcheck(instruction)
        case kinds.Onbuild():
            config["OnBuild"] = [*(config.get("OnBuild") or []), instruction.trigger]


def _words(config: dict[str, Any], command: Command) -> list[str]:
    return [*(config.get("Shell") or _SHELL), *command.words] if command.shell else [*command.words]


def _below(folder: str, path: str) -> str:
    return "/" + posixpath.normpath(posixpath.join(folder, path)).lstrip("/")


def _healthcheck(instruction: Healthcheck) -> dict[str, Any]:
    """As the API has it: what was not given is not there."""
    numbers = {
        "Interval": instruction.interval,
        "Timeout": instruction.timeout,
        "StartPeriod": instruction.start_period,
        "StartInterval": instruction.start_interval,
        "Retries": instruction.retries,
    }
    return {"Test": [*instruction.test], **{name: number for name, number in numbers.items() if number}}
