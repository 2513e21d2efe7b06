"""What instructions set in an image's configuration (OCI image spec, config.md, and Docker's own additions)."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Any

from coved.build.errors import BuildError
from coved.containers import signals
from coved.dockerfile import instructions as i
from coved.dockerfile.ports import names
from coved.errors import InvalidParameter

Json = dict[str, Any]

SHELL = ("/bin/sh", "-c")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def shell(config: Json) -> tuple[str, ...]:
    """What runs commands that are not lists of words."""
    return tuple(config.get("Shell") or SHELL)


def words(command: i.Command, config: Json) -> list[str]:
    return [*shell(config), *command.words] if command.shell else [*command.words]


def environment(config: Json) -> dict[str, str]:
    return dict(item.split("=", 1) for item in config.get("Env") or () if "=" in item)


def apply(config: Json, instruction: i.Instruction) -> Json:
    """The configuration after an instruction that changes no files; its variables are expanded. Raises DockerfileError."""
    changed = dict(config)
    match instruction:
        case i.Env():
            changed["Env"] = with_variables(config.get("Env") or (), instruction.pairs)
        case i.Label():
            changed["Labels"] = {**(config.get("Labels") or {}), **dict(instruction.pairs)}
        case i.Cmd():
            changed["Cmd"] = words(instruction.command, config)
            changed["ArgsEscaped"] = True
        case i.Entrypoint():
            changed["Entrypoint"] = words(instruction.command, config) or None
        case i.Shell():
            changed["Shell"] = [*instruction.words]
        case i.User():
            changed["User"] = instruction.user
        case i.Workdir():
            changed["WorkingDir"] = directory(config, instruction.path)
        case i.Expose():
            ports: Json = {name: {} for name in names(instruction.ports)}
            changed["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **ports}
        case i.Volume():
            changed["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in instruction.paths}}
        case i.Stopsignal():
            changed["StopSignal"] = _signal(instruction)
        case i.Healthcheck():
            changed["Healthcheck"] = _health(instruction)
        case i.Onbuild():
            changed["OnBuild"] = [*(config.get("OnBuild") or ()), instruction.trigger]
    return changed


def _signal(instruction: i.Stopsignal) -> str:
    try:
        signals.number(instruction.signal)
    except InvalidParameter as error:
        raise BuildError(str(error), location=instruction.location) from None
    return instruction.signal


def directory(config: Json, path: str) -> str:
    """Where WORKDIR leads from the present one. What is absolute stays as it is written, as for BuildKit."""
    if path.startswith("/"):
        return path
    return posixpath.normpath("/" + posixpath.join(config.get("WorkingDir") or "/", path).lstrip("/"))


def with_variables(env: Iterable[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """``env`` with variables set: each keeps its place, and new ones come last."""
    variables = {item.partition("=")[0]: item for item in env}
    for key, value in pairs:
        variables[key] = f"{key}={value}"
    return [*variables.values()]


def _health(check: i.Healthcheck) -> Json:
    fields = {
        "Test": [*check.test],
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }
    return {key: value for key, value in fields.items() if value}
