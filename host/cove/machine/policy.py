"""An administrator's word about Cove on this computer: settings that are locked, registries that are allowed.

The file belongs to root (on Windows to the administrators): whoever uses the computer must not be able to make or change it, nor
to choose another by the environment. It is a guard rail, not a wall: the machine is its user's own, as all of Cove's files are.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cove.errors import SettingsError
from cove.machine import tomlfile
from cove.machine.tomlfile import Mistake

OWNER = 0
"""Of whom the file must be: root."""
KEYS = ("allowed_registries", "locked")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?::[0-9]{1,5})?|\[[0-9a-f:.]+\](?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Policy:
    """`locked` has checked values by the names of settings; `allowed_registries` None lets all be used; `file` None: there is none."""

    file: Path | None = None
    locked: dict[str, Any] = field(default_factory=dict)
    allowed_registries: tuple[str, ...] | None = None

    @property
    def fingerprint(self) -> str:
        """The same for policies that say the same; "" for one that says nothing."""
        if not self.locked and self.allowed_registries is None:
            return ""
        import hashlib

        registries = None if self.allowed_registries is None else sorted(self.allowed_registries)
        return hashlib.sha256(repr((sorted(self.locked.items()), registries)).encode()).hexdigest()


def place() -> Path:
    """Where the policy is, whether there is one or not."""
    if sys.platform == "win32":
        import ctypes

        # Not of the environment, which is the user's own: CSIDL_COMMON_APPDATA of SHGetFolderPathW.
        folder = ctypes.create_unicode_buffer(260)
        ctypes.windll.shell32.SHGetFolderPathW(None, 0x23, None, 0, folder)
        return Path(folder.value or r"C:\ProgramData") / "Cove" / "policy.toml"
    if sys.platform == "darwin":
        return Path("/Library/Application Support/Cove/policy.toml")
    return Path("/etc/cove/policy.toml")


def load() -> Policy:
    """The policy in force. Raises `SettingsError` for one that cannot be trusted or read: then nothing starts, for nobody
    knows what it would have forbidden.
    """
    file = place()
    text = _read(file)
    return Policy() if text is None else parse(text, file)


def parse(text: str, file: Path) -> Policy:
    """Raises `SettingsError` that tells of each mistake: file, line, column and key."""
    values = tomlfile.read(text, file)
    mistakes = []
    for name in values:
        if name not in KEYS:
            close = difflib.get_close_matches(name, KEYS, 1)
            meant = f"did you mean {close[0]}?" if close else f"a policy has {' and '.join(KEYS)}"
            place = tomlfile.place(text, name)
            mistakes.append(Mistake(name, *place, f"{name} is not known to policies; {meant}"))
    registries, wrong = _registries(values, text)
    locked, others = _locked(values.get("locked", {}), text)
    if mistakes := [*mistakes, *wrong, *others]:
        raise tomlfile.refusal(file, sorted(mistakes, key=lambda one: one.line))
    return Policy(file, locked, registries)


def _locked(table: Any, text: str) -> tuple[dict[str, Any], list[Mistake]]:
    from cove.machine import settings

    begin, column = tomlfile.place(text, "locked")
    if not isinstance(table, dict):
        return {}, [Mistake("locked", begin, column, "locked must be a table of settings: begin it with [locked]")]
    below = "".join(text.splitlines(keepends=True)[begin:])  # the keys of the table stand after its header
    locked, mistakes = {}, []
    for name, value in table.items():
        line, column = tomlfile.place(below, name, of_value=name in settings.SCHEMA) if name in below else (0, 1)
        if name not in settings.SCHEMA:
            what = f"{name} is not a setting{settings.suggestion(name)}"
            mistakes.append(Mistake(name, begin + line, column, what))
            continue
        try:
            locked[name] = settings.SCHEMA[name].parse(value)
        except ValueError as error:
            mistakes.append(Mistake(name, begin + line, column, f"{name} {error}", settings.SCHEMA[name].kind))
    return locked, mistakes


def _registries(values: dict[str, Any], text: str) -> tuple[tuple[str, ...] | None, list[Mistake]]:
    name = "allowed_registries"
    if name not in values:
        return None, []
    given = values[name]
    for one in given if isinstance(given, list) else [None]:
        if not isinstance(one, str) or not _HOST.fullmatch(one.lower()):
            what = (
                'must be a list of hosts such as "docker.io", "registry.local:5000" or "*.example.com",'
                f" not {given if one is None else one!r}"
            )
            return None, [Mistake(name, *tomlfile.place(text, name, of_value=True), f"{name} {what}")]
    return tuple(one.lower() for one in given), []


def _read(file: Path) -> str | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SettingsError(
            f"the administrator's policy {file} cannot be read: {error.strerror}",
            "it must be a file, not a symbolic link, that everybody may read: ask your administrator",
        ) from error
    with os.fdopen(descriptor, "rb") as stream:
        _check(file, os.fstat(descriptor), file.parent.stat())
        data = stream.read(tomlfile.MAX_FILE + 1)
    return tomlfile.decoded(data, file, "a policy")


def _check(file: Path, info: os.stat_result, folder: os.stat_result) -> None:
    """Refuse a file that others than the administrators may have written."""
    if sys.platform == "win32":
        _check_windows(file)
        return
    if not stat.S_ISREG(info.st_mode):
        raise SettingsError(f"the administrator's policy {file} is not a file", f"remove it: sudo rm -r '{file}'")
    for path, found in ((file, info), (file.parent, folder)):
        if found.st_uid != OWNER:
            raise SettingsError(
                f"the administrator's policy {file} is not used: {path} belongs to user {found.st_uid}, not to root",
                f"give it to root: sudo chown root '{path}'",
            )
        if found.st_mode & 0o022:
            raise SettingsError(
                f"the administrator's policy {file} is not used: others than root may write to {path}"
                f" (mode {stat.S_IMODE(found.st_mode):04o})",
                f"take that from them: sudo chmod go-w '{path}'",
            )


def _check_windows(file: Path) -> None:
    """Whose the file is, by its security descriptor's owner (GetNamedSecurityInfoW), which must be the administrators or the system;
    below %ProgramData% nobody else may write to what they have made.
    """
    if sys.platform != "win32":
        return
    import ctypes

    owner, descriptor = ctypes.c_void_p(), ctypes.c_void_p()
    advapi = ctypes.windll.advapi32
    failed = advapi.GetNamedSecurityInfoW(
        str(file), 1, 1, ctypes.byref(owner), None, None, None, ctypes.byref(descriptor)
    )
    try:
        # WELL_KNOWN_SID_TYPE: 22 is LocalSystem, 26 the administrators.
        if failed or not any(advapi.IsWellKnownSid(owner, kind) for kind in (22, 26)):
            raise SettingsError(
                f"the administrator's policy {file} is not used: it does not belong to the administrators",
                f'give it to them, as an administrator: icacls "{file}" /setowner Administrators',
            )
    finally:
        ctypes.windll.kernel32.LocalFree(descriptor)
