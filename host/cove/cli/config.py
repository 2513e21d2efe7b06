"""`cove config` (and `cove machine config`): a machine's settings, read, changed, checked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import click

from cove.agent import changes
from cove.cli import as_json as json_output
from cove.cli.clicked import Command, Group, switch
from cove.cli.which_machine import chosen
from cove.errors import CoveError, SettingsError
from cove.machine.paths import MachinePaths

if TYPE_CHECKING:
    from cove.agent.fit import Misfit
    from cove.machine.settings import Settings


@click.group("config", cls=Group)
def group() -> None:
    """Show and change a machine's settings"""


class _OfAKey(Command):
    """A command whose help lists the settings."""

    def get_help(self, ctx: click.Context) -> str:
        from cove.machine.settings import SCHEMA

        width = max(map(len, SCHEMA)) + 2
        lines = [f"  {name:<{width}}{key.kind}; default {key.show(key.default)}" for name, key in SCHEMA.items()]
        about = "Settings, what each may be, and its default (more of each: docs/settings.md, and cove config edit):"
        return "\n".join([super().get_help(ctx), "", about, *lines])


def _where(name: str, found: Any) -> str:
    """ "policy /etc/cove/policy.toml", "environment COVE_CPUS", "file", "default"; a new machine's file says most defaults itself."""
    from cove.machine.settings import SCHEMA

    if found.origin == "file" and found.value == SCHEMA[name].default:
        return "file (the default)"
    return found.origin if found.origin in ("file", "default") else f"{found.origin} {found.place}"


@group.command("list")
@chosen
@switch("--origin", help="Tell where each value comes from, and the variable that overrides it")
@json_output.option
def list_settings(name: str, origin: bool, as_json: bool) -> None:
    """Print all settings that are in force"""
    from cove.machine import effective, lifecycle, remote
    from cove.machine.settings import SCHEMA

    paths = lifecycle.existing(name)
    values = effective.values(paths.settings)
    if (there := remote.load(paths)) is not None:
        values = {key: found for key, found in values.items() if there.counts(key)}
    if as_json:
        json_output.show([changes.row(key, found, public=True) for key, found in values.items()])
        return
    lines = {key: f"{key} = {SCHEMA[key].public(found.value)}" for key, found in values.items()}
    if not origin:
        print("\n".join(lines.values()))
        return
    width = max(map(len, lines.values())) + 2
    origins = {key: _where(key, found) for key, found in values.items()}
    column = max(map(len, origins.values())) + 2
    print(f"{'SETTING':<{width}}{'FROM':<{column}}VARIABLE")
    for key, line in lines.items():
        print(f"{line:<{width}}{origins[key]:<{column}}{effective.variable(key)}")


@group.command("get", cls=_OfAKey)
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
        json_output.show(changes.row(key, found))
        return
    print(settings.SCHEMA[key].show(found.value))
    if found.origin in ("policy", "environment"):
        print(f"cove: this is not from the file: {_where(key, found)}", file=sys.stderr)


@group.command(
    "set",
    cls=_OfAKey,
    short_help="Change one setting",
    help="Change one setting\n\nA list is a:5000,b:5000 or, as `config get` prints it, '[\"a:5000\", \"b:5000\"]'; '' empties it,"
    " and a text.\nA size is 4g, 4GB or 4GiB, which are the same, 1.5g, or a number of bytes.",
)
@chosen
@click.argument("key", metavar="KEY")
@click.argument("value", metavar="VALUE")
@json_output.option
def set_setting(name: str, key: str, value: str, as_json: bool) -> None:
    from cove.machine import lifecycle, remote, settings

    paths = lifecycle.existing(name)
    _refuse_locked(key)
    remote.refuse_setting(paths, key)
    _write(paths, key, lambda text: settings.with_value(text, key, value, paths.settings), as_json)


@group.command("unset", cls=_OfAKey)
@chosen
@click.argument("key", metavar="KEY")
@json_output.option
def unset(name: str, key: str, as_json: bool) -> None:
    """Take one setting out of the file: its default counts again"""
    from cove.machine import lifecycle, settings

    paths = lifecycle.existing(name)
    if key in settings.SCHEMA:
        _refuse_locked(key)
    _write(paths, key, lambda text: settings.without_value(text, key, paths.settings), as_json)


def _refuse_locked(key: str) -> None:
    from cove.machine import effective, policy
    from cove.machine.settings import checked_name

    effective.refuse_locked(checked_name(key), policy.load())


def _write(paths: MachinePaths, key: str, change: Callable[[str], str], as_json: bool) -> None:
    """Put a changed file in place, and tell when the change counts."""
    from cove.machine import settings

    with changes.changing(paths):
        before = settings.text_of(paths.settings)
        text = change(before)
        wanted, left = settings.examined(text, paths.settings)
        warnings = changes.taken(paths, wanted, [key])
        if text != before:
            settings.write(paths.settings, text)
    warn([*warnings, *(one.told(paths.settings) for one in left)])
    old, wrong = settings.examined(before, paths.settings)
    if key not in settings.SCHEMA:
        words = f"machine {paths.name}: {key}, which is no setting, has been taken out of the file"
        json_output.told(as_json, words, key=key, restart_needed=False, warnings=warnings)
        return
    same = getattr(old, key) == getattr(wanted, key) and key not in [one.key for one in wrong]
    overridden = settings.SCHEMA[key].at_once and not left and key in changes.renew(paths)
    _tell(paths, key, wanted, same, overridden, warnings, as_json)


def _tell(
    paths: MachinePaths, key: str, wanted: Settings, same: bool, overridden: bool, warnings: list[str], as_json: bool
) -> None:
    """What has been done to one setting. ``same``: nothing; ``overridden``: the agent's own environment says something else."""
    import os
    import sys

    from cove.machine import effective, settings

    setting, variable = settings.SCHEMA[key], effective.variable(key)
    needed = changes.restart_needed(paths, wanted, {key} if not same else set(), {key})
    if as_json:
        found = _found(paths, key, wanted)
        json_output.show({**changes.row(key, found, public=True), "restart_needed": needed, "warnings": warnings})
    else:
        when = "in the file" if overridden else _when(paths, {key}, needed)
        words = "as it was" + (f"; {when}" if needed else "") if same and not overridden else when
        print(f"machine {paths.name}: {key} = {setting.public(getattr(wanted, key))}, {words}")
    if overridden:
        print(
            f"cove: the machine's agent was started with {variable}, which counts before the file; when it is not set: "
            f"cove machine restart {paths.name}",
            file=sys.stderr,
        )
    elif os.environ.get(variable) is not None:
        print(
            f"cove: {variable} is set in the environment, and counts before the file until it is unset", file=sys.stderr
        )


def _found(paths: MachinePaths, key: str, wanted: Settings) -> Any:
    """The setting as it is in force, or as the file says it while others there have mistakes."""
    from cove.machine import effective

    try:
        return effective.values(paths.settings)[key]
    except SettingsError:
        return effective.Value(getattr(wanted, key), "file", str(paths.settings))


def warn(warnings: Iterable[str]) -> None:
    import sys

    for line in warnings:
        print(f"cove: warning: {line}", file=sys.stderr)


def _count_at_once(keys: Collection[str]) -> bool:
    from cove.machine.settings import SCHEMA

    return all(SCHEMA[key].at_once for key in keys)


def _when(paths: MachinePaths, keys: Collection[str], restart_needed: bool) -> str:
    """When a change of these settings counts."""
    if _count_at_once(keys):
        return "in effect now"
    if restart_needed:
        asleep = "" if changes.runs(paths) else " (it is suspended, and wakes with the settings that it had)"
        return f"in effect after: cove machine restart {paths.name}{asleep}"
    if changes.runs(paths):
        return "which it runs with"
    return "in effect when it wakes" if changes.is_suspended(paths) else "in effect from its next start"


@group.command(
    "validate",
    short_help="Check the settings, or another file of settings",
    help="Check the settings, or another file of settings\n\nWhat is checked is what counts: the policy, the environment's"
    " COVE_... variables, and the file.\nExit status 1 tells of a mistake, or of what this computer cannot hold; warnings"
    " leave it 0.",
)
@chosen
@click.argument("file", metavar="[FILE]", required=False)
@json_output.option
def validate(name: str, file: str | None, as_json: bool) -> int:
    from cove.agent import fit
    from cove.machine import effective, lifecycle, settings

    path = Path(file) if file else lifecycle.existing(name).settings
    if file and not path.is_file():
        raise SettingsError(f"{path} is not a file", "give the path of a file of settings, or none for the machine's")
    try:
        if file:  # of another machine, perhaps
            kept = settings.load(path)
            found = fit.misfits(MachinePaths(name), kept, settings.SCHEMA.keys() - {"disk"})
        else:
            found = fit.of_values(lifecycle.existing(name), effective.values(path))
        found = _placed(found, path)
        if refused := [one for one in found if one.refused]:
            raise fit.refusal(refused)
    except SettingsError as error:
        if not as_json:
            raise
        json_output.show({
            "file": str(path), "valid": False, "error": error.message, "hint": error.hint, "warnings": [],
        })  # fmt: skip
        return 1
    warnings = [one.words for one in found]
    warn(warnings)
    json_output.told(
        as_json, f"{path} is in order", file=str(path), valid=True, error=None, hint=None, warnings=warnings
    )
    return 0


def _placed(found: Iterable[Misfit], file: Path) -> list[Misfit]:
    """Those that the file says, with their places in it."""
    from dataclasses import replace

    from cove.machine import settings, tomlfile

    text = settings.text_of(file)
    there = tomlfile.read(text, file)
    placed = []
    for one in found:
        if one.key in there and one.of_file:
            line, column = tomlfile.place(text, one.key, of_value=True)
            one = replace(one, message=f"{file}:{line}:{column}: {one.message}")
        placed.append(one)
    return placed


@group.command("path")
@chosen
@json_output.option
def path(name: str, as_json: bool) -> None:
    """Print where the file of settings is"""
    from cove.machine import lifecycle, policy

    file = lifecycle.existing(name).settings
    json_output.told(as_json, str(file), machine=name, settings=str(file), policy=str(policy.place()))


@group.command(
    "edit",
    short_help="Open the settings in your editor, and check them before they count",
    help="Open the settings in your editor, and check them before they count\n\nThe editor is what VISUAL or EDITOR name."
    " What has a mistake is not taken: you can go on editing,\nor discard it.",
)
@chosen
@json_output.option
def edit(name: str, as_json: bool) -> None:
    import sys
    import tempfile

    from cove.machine import lifecycle, settings

    paths = lifecycle.existing(name)
    asked = sys.stderr if as_json else sys.stdout
    before = settings.text_of(paths.settings)
    if paths.settings_draft.exists():
        print(f"what you wrote before, and did not count, is still in {paths.settings_draft}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="cove-edit-") as folder:
        draft = Path(folder) / paths.settings.name
        draft.write_text(before, "utf-8", newline="")
        with _keeping(draft, before, paths):
            edited = _edited(draft, before, paths, asked)
            if edited is not None:
                _write_over(paths, before, edited.text, asked)
    if edited is None:
        words = f"machine {name}: nothing has been changed"
        json_output.told(as_json, words, machine=name, changed=[], restart_needed=False, warnings=[])
        return
    paths.settings_draft.unlink(missing_ok=True)  # an earlier one
    warn(edited.warnings)
    if any(settings.SCHEMA[key].at_once for key in edited.changed):
        changes.renew(paths)
    needed = changes.restart_needed(paths, edited.wanted, edited.changed, edited.changed)
    json_output.told(
        as_json, f"machine {name}: the settings have been changed, {_when(paths, edited.changed, needed)}",
        machine=name, changed=sorted(edited.changed), restart_needed=needed, warnings=edited.warnings,
    )  # fmt: skip


class _Edited(NamedTuple):
    text: str
    wanted: Settings
    changed: set[str]
    warnings: list[str]


class _Discarded(SettingsError):
    """Who wrote it wants it no more."""


def _edited(draft: Path, before: str, paths: MachinePaths, asked: TextIO) -> _Edited | None:
    """What the user has written, None for nothing. Raises `CoveError`."""
    from cove.machine import settings

    while True:
        _open_editor(draft, paths, asked)
        text = settings.text_of(draft)
        if text == before:
            return None
        try:
            return _checked(text, before, paths)
        except CoveError as error:
            print("\n      ".join(f"cove: {error.message}".splitlines()), flush=True, file=asked)
            if not _again(asked):
                raise _Discarded("nothing has been changed", f"once more: cove config edit{paths.option}") from None


def _checked(text: str, before: str, paths: MachinePaths) -> _Edited:
    """Raises `CoveError` for what cannot be taken."""
    from cove.machine import effective, policy, settings

    old = None
    with contextlib.suppress(SettingsError):  # what is there may have a mistake
        old = settings.parse(before, paths.settings)
    wanted = settings.parse(text, paths.settings.name)
    locked = policy.load()
    for key, value in sorted(locked.locked.items()):
        # What has not been touched may stay as it is: it counts for nothing.
        if getattr(wanted, key) not in (value, getattr(old or wanted, key)):
            effective.refuse_locked(key, locked)
    changed = {key for key in settings.SCHEMA if old is None or getattr(old, key) != getattr(wanted, key)}
    return _Edited(text, wanted, changed, changes.taken(paths, wanted, changed))


def _again(asked: TextIO) -> bool:
    """Raises `SettingsError` when nobody is there to say it."""
    import sys

    while True:
        print("Edit it again? n discards what you wrote. [y/n] ", end="", flush=True, file=asked)
        answer = sys.stdin.readline()
        if not sys.stdin.isatty():  # no terminal has ended the line
            print(flush=True, file=asked)
        if answer.strip().lower() in ("y", "yes", "n", "no"):
            return answer.strip().lower() in ("y", "yes")
        if not answer:
            raise SettingsError("nothing has been changed: what you wrote has a mistake")


@contextlib.contextmanager
def _keeping(draft: Path, before: str, paths: MachinePaths) -> Iterator[None]:
    """However editing fails, what has been written is not lost, unless its user discards it."""
    import sys

    from cove.machine import settings
    from cove.machine.files import write_whole

    try:
        yield
    except _Discarded:
        raise
    except BaseException as error:
        text = before
        with contextlib.suppress(CoveError):
            text = settings.text_of(draft)
        if text == before:
            raise
        write_whole(paths.settings_draft, text.encode())
        kept = (
            f"what you wrote is kept: {paths.settings_draft}\n"
            f"put it in place, once it is right: cp '{paths.settings_draft}' '{paths.settings}'"
        )
        if not isinstance(error, CoveError):
            print(f"\ncove: {kept}", file=sys.stderr)
            raise
        error.hint = "\n".join(filter(None, (error.hint, kept)))
        raise


def _write_over(paths: MachinePaths, seen: str, text: str, asked: TextIO) -> None:
    """Put `text` in the place of what was `seen` there. Raises `SettingsError` when somebody has changed that, and is to be heeded."""
    from cove.cli.command import agreed
    from cove.machine import settings

    while True:
        with changes.changing(paths):
            there = settings.text_of(paths.settings)
            if there == seen:
                settings.write(paths.settings, text)
                return
        seen = there
        if not agreed(f"{paths.settings} has been changed by somebody else meanwhile. Write over it?", asked):
            raise SettingsError("nothing has been changed", f"once more: cove config edit{paths.option}")


def _open_editor(file: Path, paths: MachinePaths, shown: TextIO) -> None:
    """Raises `CoveError` when there is no editor, or it fails."""
    import os
    import shlex
    import shutil
    import subprocess
    import sys

    wanted = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    usual = ["notepad"] if sys.platform == "win32" else ["sensible-editor", "nano", "vi"]
    words = shlex.split(wanted, posix=sys.platform != "win32") if wanted else []
    if not words and not (sys.stdin.isatty() and shown.isatty()):
        raise CoveError(
            "there is no terminal to edit the settings in",
            f"change one with: cove config set{paths.option} KEY VALUE; or edit {paths.settings} otherwise,\n"
            f"then: cove config validate{paths.option}",
        )
    words = words or [next((one for one in usual if shutil.which(one)), "")]
    if not words[0] or shutil.which(words[0]) is None:
        raise CoveError(
            f"the editor {words[0]} is not there" if words[0] else "there is no editor on this computer",
            "name one in EDITOR: EDITOR=nano cove config edit",
        )
    # What it draws is no part of the document that is printed.
    status = subprocess.call([*words, str(file)], stdout=2 if shown is sys.stderr else None)
    if status:
        raise CoveError(f"the editor {words[0]} ended with status {status}", "nothing has been changed")
