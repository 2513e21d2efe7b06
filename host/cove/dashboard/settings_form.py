"""The settings' schema and values for the page's form, and their change: the same file, checks and words as `cove config`."""

from __future__ import annotations

import json
import re
from typing import Any

from coved.outside import masked

from cove.agent import changes
from cove.agent.threads import abandonable
from cove.dashboard.http import Answer, read_whole, reply_json
from cove.dashboard.refusal import Refused
from cove.errors import SettingsError
from cove.machine import effective, lifecycle, policy, settings
from cove.machine.paths import MachinePaths
from cove.machine.settings import SCHEMA, Key

MAX_BODY = 64 << 10
MASK = masked("@")


class SettingsForm:
    def __init__(self, paths: MachinePaths) -> None:
        self._paths = paths

    async def show(self, answer: Answer) -> None:
        """Raises `CoveError`."""
        await reply_json(answer, await abandonable(_shown, self._paths))

    async def change(self, answer: Answer) -> None:
        """Raises `CoveError`, `Refused`."""
        try:
            wish = json.loads(await read_whole(answer, MAX_BODY))
        except (ValueError, RecursionError):
            wish = None
        if not isinstance(wish, dict):
            raise Refused(400, "settings are an object of keys and values")
        await reply_json(answer, await abandonable(_changed, self._paths, wish))


def _shown(paths: MachinePaths) -> dict[str, Any]:
    lifecycle.existing(paths.name)
    found = effective.values(paths.settings)
    wanted = effective.load(paths.settings)
    return {
        "file": str(paths.settings),
        "restart_needed": changes.restart_needed(paths, wanted, (), SCHEMA),
        "settings": [_row(key, found[name]) for name, key in SCHEMA.items()],
    }


def _row(key: Key, found: effective.Value) -> dict[str, Any]:
    """What `cove config list --json` has, without passwords, and what a form needs to know."""
    return {
        **changes.row(key.name, found, public=True), "type": _type(key), "kind": key.kind, "text": key.doc, "choices": list(key.words),
        "secret": key.secret, "needs_restart": not key.at_once, "locked": found.origin == "policy",
    }  # fmt: skip


def _type(key: Key) -> str:
    """ "boolean", "integer", "choice", "list", "size", "span" or "text"; the last three are text to TOML."""
    if isinstance(key.default, bool):
        return "boolean"
    if isinstance(key.default, tuple):
        return "list"
    if isinstance(key.default, int):
        return {"memory": "size", "disk": "size", "suspend_after": "span"}.get(key.name, "integer")
    return "choice" if key.kind.startswith("one of ") else "text"


def _changed(paths: MachinePaths, wish: dict[str, Any]) -> dict[str, Any]:
    """Change all of them, or none. Raises `CoveError`, and `Refused` with what is wrong by keys (`errors`)."""
    lifecycle.existing(paths.name)
    with changes.changing(paths):
        before = settings.text_of(paths.settings)
        text, errors = before, dict[str, str]()
        locked = policy.load()
        for name, value in wish.items():
            try:
                effective.refuse_locked(settings.checked_name(name), locked)
                text = _with(text, name, _with_login(SCHEMA[name], value, before, paths), paths)
            except SettingsError as error:
                errors[name] = error.message
        if errors:
            raise Refused(422, "\n".join(errors.values()), "nothing has been changed", errors=errors)
        wanted = settings.parse(text, paths.settings)
        warnings = changes.taken(paths, wanted, list(wish))
        if text != before:
            settings.write(paths.settings, text)
    overridden = changes.renew(paths) if any(SCHEMA[name].at_once for name in wish) else []
    return {
        "changed": sorted(wish), "warnings": warnings, "overridden": [name for name in overridden if name in wish],
        "restart_needed": changes.restart_needed(paths, wanted, list(wish), list(wish)),
    }  # fmt: skip


def _with_login(key: Key, value: Any, before: str, paths: MachinePaths) -> Any:
    """The value with the login that the file has, where a form that was shown it masked gives it back so. Raises `SettingsError`."""
    if not key.secret or not isinstance(value, str) or MASK not in value or masked(value) != value:
        return value
    stored = getattr(settings.examined(before, paths.settings)[0], key.name)
    scheme, separator, rest = stored.rpartition("@")[0].partition("://")
    login = rest if separator and ":" not in scheme else stored.rpartition("@")[0]
    # Not to another host: it would be told a password that is not for it.
    if not login or _host(stored) != _host(value):
        raise SettingsError(
            f"the login of {key.name} is not the one that is shown", "write it anew: USER:PASSWORD@HOST"
        )
    return value.replace(MASK, f"{login}@", 1)


def _host(proxy: str) -> str:
    return re.sub(r":[0-9]*$", "", proxy.rpartition("@")[2].partition("/")[0]).lower()


def _with(text: str, name: str, value: Any, paths: MachinePaths) -> str:
    """Raises `SettingsError`."""
    if value is None:
        return settings.without_value(text, name, paths.settings)
    if not isinstance(value, bool | int | str) and not (
        isinstance(value, list) and all(isinstance(each, str) for each in value)
    ):
        raise SettingsError(f"{name} cannot be {json.dumps(value)[:60]}", f"allowed: {SCHEMA[name].kind}")
    # What JSON says of a text or a list of texts, TOML says in the same way.
    typed = json.dumps(value, ensure_ascii=False)
    return settings.with_value(text, name, typed, paths.settings)
