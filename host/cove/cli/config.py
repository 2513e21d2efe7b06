"""`cove config` (and `cove machine config`): a machine's settings, read, changed, checked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import click

from cove.cli import as_json as json_output
from cove.cli.clicked import Group, switch
from cove.cli.which_machine import chosen
from cove.errors import CoveError, SettingsError
from cove.machine.paths import MachinePaths

_RENEW_S = 20.0
_CHANGE_S = 10.0


@click.group("config", cls=Group)
def group() -> None:
    """Show and change a machine's settings"""


def _row(name: str, found: Any, *, public: bool = False) -> dict[str, Any]:
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


def _where(found: Any) -> str:
    """ "policy /etc/cove/policy.toml", "environment COVE_CPUS", "file", "default"."""
    return found.origin if found.origin in ("file", "default") else f"{found.origin} {found.place}"


@group.command("list")
@chosen
@switch("--origin", help="Tell where each value comes from, and the variable that overrides it")
@json_output.option
def list_settings(name: str, origin: bool, as_json: bool) -> None:
    """Print all settings that are in force"""
    from cove.machine import effective, lifecycle
    from cove.machine.settings import SCHEMA

    values = effective.values(lifecycle.existing(name).settings)
    if as_json:
        json_output.show([_row(key, found, public=True) for key, found in values.items()])
        return
    lines = {key: f"{key} = {SCHEMA[key].public(found.value)}" for key, found in values.items()}
    if not origin:
        print("\n".join(lines.values()))
        return
    width = max(map(len, lines.values())) + 2
    origins = {key: _where(found) for key, found in values.items()}
    column = max(map(len, origins.values())) + 2
    print(f"{'SETTING':<{width}}{'FROM':<{column}}VARIABLE")
    for key, line in lines.items():
        print(f"{line:<{width}}{origins[key]:<{column}}{effective.variable(key)}")


@group.command("get")
@chosen
@click.argument("key", metavar="KEY")
@json_output.option
def get(name: str, key: str, as_json: bool) -> None:
    """Print one setting as it is in force"""
    import sys

    from cove.machine import effective, lifecycle, settings

    settings.checked_name(key)
    found = effective.values(lifecycle.existing(name).settings)[key]
    if as_json:
        json_output.show(_row(key, found))
        return
    print(settings.SCHEMA[key].show(found.value))
    if found.origin in ("policy", "environment"):
        print(f"cove: this is not from the file: {_where(found)}", file=sys.stderr)


@group.command(
    "set",
    short_help="Change one setting",
    help="Change one setting\n\nA list is a:5000,b:5000 or, as `config get` prints it, '[\"a:5000\", \"b:5000\"]'; '' empties it.",
)
@chosen
@click.argument("key", metavar="KEY")
@click.argument("value", metavar="VALUE")
@json_output.option
def set_setting(name: str, key: str, value: str, as_json: bool) -> None:
    from cove.machine import lifecycle, settings

    paths = lifecycle.existing(name)
    _refuse_locked(key)
    _write(paths, key, lambda text: settings.with_value(text, key, value, paths.settings), as_json)


@group.command("unset")
@chosen
@click.argument("key", metavar="KEY")
@json_output.option
def unset(name: str, key: str, as_json: bool) -> None:
    """Take one setting out of the file: its default counts again"""
    from cove.machine import lifecycle, settings

    paths = lifecycle.existing(name)
    _refuse_locked(key)
    _write(paths, key, lambda text: settings.without_value(text, key, paths.settings), as_json)


def _refuse_locked(key: str) -> None:
    from cove.machine import effective, policy
    from cove.machine.settings import checked_name

    effective.refuse_locked(checked_name(key), policy.load())


@contextlib.contextmanager
def _changing(paths: MachinePaths) -> Iterator[None]:
    """For reading the file, changing and writing it: of two commands at a time none undoes what the other has done."""
    from cove.machine.locks import FileLock

    with FileLock(paths.settings_lock) as lock:
        lock.acquire(_CHANGE_S, f"the settings of machine {paths.name}")
        yield


def _write(paths: MachinePaths, key: str, change: Callable[[str], str], as_json: bool) -> None:
    """Put a changed file in place, and tell when the change counts."""
    import os
    import sys

    from cove.agent import disk
    from cove.machine import effective, settings

    with _changing(paths):
        text = change(settings.text_of(paths.settings))
        wanted = settings.parse(text, paths.settings)
        if key == "disk":
            disk.check_size(paths, wanted.disk)
        if key == "extra_certificates":
            _check_certificates(wanted.extra_certificates)
        settings.write(paths.settings, text)
    value = getattr(wanted, key)
    variable = effective.variable(key)
    elsewhere = settings.SCHEMA[key].at_once and key in _renew(paths)
    if as_json:
        needed = _restart_needed(paths, {key})
        json_output.show({**_row(key, effective.values(paths.settings)[key], public=True), "restart_needed": needed})
    else:
        when = "in the file" if elsewhere else _when(paths, {key})
        print(f"machine {paths.name}: {key} = {settings.SCHEMA[key].public(value)}, {when}")
    if elsewhere:
        print(
            f"cove: the machine's agent was started with {variable}, which counts before the file; when it is not set: "
            f"cove machine restart {paths.name}",
            file=sys.stderr,
        )
    elif os.environ.get(variable) is not None:
        print(
            f"cove: {variable} is set in the environment, and counts before the file until it is unset", file=sys.stderr
        )


def _check_certificates(files: tuple[str, ...]) -> None:
    """Raises `SettingsError` that names the file."""
    from cove.machine import certificates

    for one in files:
        certificates.of_file(Path(one).expanduser())


def _renew(paths: MachinePaths) -> list[str]:
    """Have the machine's agent take over what has changed. Raises `CoveError` when it cannot.

    Returns the settings that the agent's own environment decides, whatever the file says.
    """
    from cove.agent.client import SETTINGS, NoAgent, ask

    with contextlib.suppress(NoAgent):
        return list(ask(paths, SETTINGS, _RENEW_S).get("overridden", ()))
    return []


def _runs(paths: MachinePaths) -> bool:
    from cove.machine.locks import FileLock

    return not FileLock(paths.vm_lock).is_free()


def _is_suspended(paths: MachinePaths) -> bool:
    return paths.suspended_run.exists()


def _count_at_once(keys: set[str]) -> bool:
    from cove.machine.settings import SCHEMA

    return all(SCHEMA[key].at_once for key in keys)


def _restart_needed(paths: MachinePaths, keys: set[str]) -> bool:
    return not _count_at_once(keys) and (_runs(paths) or _is_suspended(paths))


def _when(paths: MachinePaths, keys: set[str]) -> str:
    """When a change of these settings counts."""
    if _count_at_once(keys):
        return "in effect now"
    if not _restart_needed(paths, keys):
        return "in effect from its next start"
    asleep = "" if _runs(paths) else " (it is suspended, and wakes with the settings that it had)"
    return f"in effect after: cove machine restart {paths.name}{asleep}"


@group.command("validate")
@chosen
@click.argument("file", metavar="[FILE]", required=False)
@json_output.option
def validate(name: str, file: str | None, as_json: bool) -> int:
    """Check the settings, what the environment and the policy say of them included, or another file"""
    from cove.machine import effective, lifecycle, settings

    path = Path(file) if file else lifecycle.existing(name).settings
    if file and not path.is_file():
        raise SettingsError(f"{path} is not a file", "give the path of a file of settings, or none for the machine's")
    try:
        if file:
            settings.load(path)
        else:
            _check_certificates(effective.values(path)["extra_certificates"].value)
    except SettingsError as error:
        if not as_json:
            raise
        json_output.show({"file": str(path), "valid": False, "error": error.message, "hint": error.hint})
        return 1
    json_output.told(as_json, f"{path} is in order", file=str(path), valid=True, error=None, hint=None)
    return 0


@group.command("path")
@chosen
@json_output.option
def path(name: str, as_json: bool) -> None:
    """Print where the file of settings is"""
    from cove.machine import lifecycle, policy

    file = lifecycle.existing(name).settings
    json_output.told(as_json, str(file), machine=name, settings=str(file), policy=str(policy.place()))


@group.command("edit")
@chosen
@json_output.option
def edit(name: str, as_json: bool) -> None:
    """Open the settings in your editor (VISUAL, EDITOR), and check them before they count"""
    import sys
    import tempfile

    from cove.agent import disk
    from cove.cli.command import agreed
    from cove.machine import effective, lifecycle, policy, settings

    paths = lifecycle.existing(name)
    asked = sys.stderr if as_json else sys.stdout
    before = settings.text_of(paths.settings)
    old = None
    with contextlib.suppress(SettingsError):  # what is there may have a mistake
        old = settings.parse(before, paths.settings)
    with tempfile.TemporaryDirectory(prefix="cove-edit-") as folder:
        draft = Path(folder) / paths.settings.name
        draft.write_text(before, "utf-8", newline="")
        while True:
            _open_editor(draft, as_json)
            text = settings.text_of(draft)
            if text == before:
                words = f"machine {name}: nothing has been changed"
                json_output.told(as_json, words, machine=name, changed=[], restart_needed=False)
                return
            try:
                wanted = settings.parse(text, draft.name)
                locked = policy.load()
                for key, value in sorted(locked.locked.items()):
                    # What has not been touched may stay as it is: it counts for nothing.
                    if getattr(wanted, key) not in (value, getattr(old or wanted, key)):
                        effective.refuse_locked(key, locked)
                disk.check_size(paths, wanted.disk)
                _check_certificates(wanted.extra_certificates)
            except CoveError as error:
                print(f"cove: {error.message}\n      {error.hint}", flush=True, file=asked)
                if agreed("Edit it again? Otherwise the settings stay as they were.", asked):
                    continue
                raise SettingsError(
                    "nothing has been changed: what you wrote has a mistake", "once more: cove config edit"
                ) from None
            break
    _write_over(paths, before, text, asked)
    changed = {key for key in settings.SCHEMA if old is None or getattr(old, key) != getattr(wanted, key)}
    if any(settings.SCHEMA[key].at_once for key in changed):
        _renew(paths)
    json_output.told(
        as_json, f"machine {name}: the settings have been changed, {_when(paths, changed)}",
        machine=name, changed=sorted(changed), restart_needed=_restart_needed(paths, changed),
    )  # fmt: skip


def _write_over(paths: MachinePaths, seen: str, text: str, asked: TextIO) -> None:
    """Put `text` in the place of what was `seen` there. Raises `SettingsError` when somebody has changed that, and is to be heeded."""
    from cove.cli.command import agreed
    from cove.machine import settings

    while True:
        with _changing(paths):
            there = settings.text_of(paths.settings)
            if there == seen:
                settings.write(paths.settings, text)
                return
        seen = there
        if not agreed(f"{paths.settings} has been changed by somebody else meanwhile. Write over it?", asked):
            raise SettingsError("nothing has been changed", "once more: cove config edit")


def _open_editor(file: Path, as_json: bool) -> None:
    """Raises `CoveError` when there is no editor, or it fails."""
    import os
    import shlex
    import shutil
    import subprocess
    import sys

    wanted = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    usual = ["notepad"] if sys.platform == "win32" else ["sensible-editor", "nano", "vi"]
    words = shlex.split(wanted, posix=sys.platform != "win32") if wanted else []
    words = words or [next((one for one in usual if shutil.which(one)), "")]
    if not words[0] or shutil.which(words[0]) is None:
        raise CoveError(
            f"the editor {words[0]} is not there" if words[0] else "there is no editor on this computer",
            "name one in EDITOR: EDITOR=nano cove config edit",
        )
    # What it draws is no part of the document that is printed.
    status = subprocess.call([*words, str(file)], stdout=2 if as_json else None)
    if status:
        raise CoveError(f"the editor {words[0]} ended with status {status}", "nothing has been changed")
