"""Changes of a machine's settings: shown, kept from each other, taken over by an agent that runs. Light to import."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from cove.machine.paths import MachinePaths

if TYPE_CHECKING:
    from cove.machine.settings import Settings

_RENEW_S = 20.0
_CHANGE_S = 10.0


def row(name: str, found: Any, *, public: bool = False) -> dict[str, Any]:
    """A setting as programs see it: `value` as TOML has it, `text` as the file would; `public`: without a password."""
    import tomli

    from cove.machine.effective import variable
    from cove.machine.settings import SCHEMA

    text = SCHEMA[name].public(found.value) if public else SCHEMA[name].show(found.value)
    return {
        "key": name, "value": tomli.loads(f"value = {text}")["value"], "toml": text, "origin": found.origin,
        "place": found.place, "default": tomli.loads(f"value = {SCHEMA[name].show(SCHEMA[name].default)}")["value"],
        "variable": variable(name), "takes_effect": "at once" if SCHEMA[name].at_once else "next start",
    }  # fmt: skip


@contextlib.contextmanager
def changing(paths: MachinePaths) -> Iterator[None]:
    """For reading the file, changing and writing it: of two commands at a time none undoes what the other has done."""
    from cove.machine.locks import FileLock

    with FileLock(paths.settings_lock) as lock:
        lock.acquire(_CHANGE_S, f"the settings of machine {paths.name}")
        yield


def taken(paths: MachinePaths, wanted: Settings, keys: Collection[str]) -> list[str]:
    """What is to be told of new values of these settings. Raises `SettingsError` for what this computer cannot hold."""
    from cove.agent import fit

    found = fit.misfits(paths, wanted, keys)
    if refused := [one for one in found if one.refused]:
        raise fit.refusal(refused)
    return [one.words for one in found]


def renew(paths: MachinePaths) -> list[str]:
    """Have the machine's agent take over what has changed. Raises `CoveError` when it cannot.

    Returns the settings that the agent's own environment decides, whatever the file says.
    """
    from cove.agent.client import SETTINGS, NoAgent, ask

    with contextlib.suppress(NoAgent):
        return list(ask(paths, SETTINGS, _RENEW_S).get("overridden", ()))
    return []


def runs(paths: MachinePaths) -> bool:
    from cove.machine.running import vm_may_run

    return vm_may_run(paths)


def is_suspended(paths: MachinePaths) -> bool:
    return paths.suspended_run.exists()


def restart_needed(paths: MachinePaths, wanted: Settings, changed: Collection[str], keys: Collection[str]) -> bool:
    """Whether the machine's VM, running or suspended, has another value of one of `keys`; of a VM that an older Cove has started
    only those that have just been `changed` are known.
    """
    from cove.machine import runstate, settings, suspended

    later = [key for key in keys if not settings.SCHEMA[key].at_once]
    if runs(paths):
        run = runstate.load(paths)
    elif is_suspended(paths):
        before = suspended.load(paths)
        run = before.run if before else None
        later = [key for key in later if not settings.SCHEMA[key].at_wake]
    else:
        return False
    if run is None or not run.settings:
        return not set(changed).isdisjoint(later)
    return any(run.settings.get(key) != settings.SCHEMA[key].show(getattr(wanted, key)) for key in later)
