"""What counts for a machine: the administrator's policy before the environment, that before the file, that before the defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cove.errors import SettingsError
from cove.machine import policy as policies
from cove.machine import settings
from cove.machine.policy import Policy
from cove.machine.settings import SCHEMA, Settings


@dataclass(frozen=True, slots=True)
class Value:
    """A setting, its `origin` ("policy", "environment", "file" or "default") and the `place`: a file, or a variable's name."""

    value: Any
    origin: str
    place: str


def variable(name: str) -> str:
    """The environment variable that overrides a setting: COVE_CPUS for cpus."""
    return f"COVE_{name.upper()}"


def values(file: Path, environment: Mapping[str, str] | None = None, policy: Policy | None = None) -> dict[str, Value]:
    """All settings of a machine. Raises `SettingsError` that names the file and line, or the variable; `MachineNotFound`."""
    environment = os.environ if environment is None else environment
    policy = policies.load() if policy is None else policy
    kept, given = settings.load_given(file)
    found, wrong = {}, []
    for name in SCHEMA:
        if name in policy.locked:
            found[name] = Value(policy.locked[name], "policy", str(policy.file))
        elif environment.get(variable(name)) is not None:
            try:
                value = _of_variable(name, environment[variable(name)])
            except SettingsError as error:
                wrong.append(error)
            else:
                found[name] = Value(value, "environment", variable(name))
        elif name in given:
            found[name] = Value(getattr(kept, name), "file", str(file))
        else:
            found[name] = Value(getattr(kept, name), "default", "")
    if wrong:
        raise SettingsError("\n".join(one.message for one in wrong), "\n".join(one.hint for one in wrong))
    return found


def overridden() -> list[str]:
    """Those settings that this process's environment decides."""
    return [name for name in SCHEMA if os.environ.get(variable(name)) is not None]


def load(file: Path) -> Settings:
    """The settings in force for a machine that starts now. Raises as `values` does."""
    return Settings(**{name: found.value for name, found in values(file).items()})


def refuse_locked(name: str, policy: Policy) -> None:
    """Raises `SettingsError` when nobody but the administrator may change a setting."""
    if name in policy.locked:
        shown = SCHEMA[name].public(policy.locked[name])
        raise SettingsError(
            f"{name} is locked to {shown} by your administrator's policy ({policy.file})",
            "ask your administrator; see what is locked with: cove config list --origin",
        )


def _of_variable(name: str, text: str) -> Any:
    try:
        return settings.typed(SCHEMA[name], text)
    except ValueError as error:
        raise SettingsError(
            f"the environment variable {variable(name)}: {name} {error}",
            f"allowed: {SCHEMA[name].kind}; or unset it: unset {variable(name)}",
        ) from None
