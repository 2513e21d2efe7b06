"""Which folders of this computer a machine has, by its settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cove.errors import SettingsError
from cove.machine.settings import Settings

MAX_FOLDERS = 8
"""The most folders that a machine can have: each needs a slot for its device."""

MAX_LINKS = 40
"""As systems have it."""


NOT_YET = "not mounted yet"
"""The state of a folder which the machine, just started, is about to mount."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One shared folder. ``tag`` names its device; ``path`` is absolute, and is the folder itself, no symbolic link to it."""

    tag: str
    path: Path
    read_only: bool
    named: Path
    """As the user named it, which may be by a link: containers may name it so too."""
    owner: tuple[int, int] = (0, 0)
    """The uid and gid that containers see of what is this computer's user's, by Cove's own server."""


def wanted(settings: Settings) -> tuple[list[Folder], list[str]]:
    """The folders that are there, and what is to be said of the others.

    A folder in another one that is shared in the same way comes with that one. Raises `SettingsError` for what cannot be had.
    """
    asked: dict[Path, tuple[bool, Path]] = {}
    said: list[str] = []
    home = Path.home()
    listed = [(home, settings.share_home == "read-only")] if settings.share_home != "no" else []
    for text in settings.shared_folders:
        name, read_only = split(text)
        listed.append((Path(name).expanduser(), read_only))
    for named, read_only in listed:
        try:
            path = named.resolve(strict=True)
            if not path.is_dir():
                said.append(
                    f"{named} is not shared: it is a file, and folders are shared whole: name the one that it lies in"
                )
                continue
        except (OSError, RuntimeError):
            said.append(f"{named} is not shared: there is no such folder")
            continue
        if not _is_text(path):
            said.append(f"{os.fsencode(path)!r} is not shared: its name is not UTF-8")
            continue
        asked[path] = (read_only, named)  # the last word counts
    for path, within in _by_ways_of_containers(asked).items():
        _, named = asked.pop(path)
        said.append(
            f"{named} is not shared: a symbolic link in {within}, which containers can change, leads to {path};"
            " name that folder itself in shared_folders"
        )
    roots = _outermost(asked)
    if len(roots) > MAX_FOLDERS:
        raise SettingsError(
            f"shared_folders: {len(roots)} folders are more than the {MAX_FOLDERS} that a machine can have",
            "share a folder that has several of them in it",
        )
    owner = _owner(settings.folder_owner)
    folders = [Folder(f"folder{index}", path, *asked[path], owner) for index, path in enumerate(roots)]
    return folders, said


def _owner(setting: str) -> tuple[int, int]:
    if setting == "root":
        return 0, 0
    if setting == "user":
        if sys.platform == "win32":
            return 0, 0
        return os.getuid(), os.getgid()
    uid, _, gid = setting.partition(":")
    return int(uid), int(gid)


def _by_ways_of_containers(asked: dict[Path, tuple[bool, Path]]) -> dict[Path, Path]:
    """Folders named by a link that lies in a writable one and leads out of it, and that one: containers could lead it to all else."""
    writable = [path for path, (read_only, _) in asked.items() if not read_only]
    found = {}
    for path, (_, named) in asked.items():
        for at in _links(named.absolute()):
            for one in writable:
                if at.is_relative_to(one) and not path.is_relative_to(one):
                    found[path] = one
    return found


def _links(path: Path) -> list[Path]:
    """The directories that have symbolic links on the way to a path that is there."""
    found: list[Path] = []
    at, rest = Path(path.anchor), [*reversed(path.parts[1:])]
    while rest and len(found) < MAX_LINKS:
        name = rest.pop()
        if name == "..":
            at = at.parent
            continue
        try:
            target = Path((at / name).readlink().as_posix().removeprefix("//?/"))
        except OSError:  # no link
            at /= name
            continue
        found.append(at)
        if target.anchor:
            at = Path(target.anchor)
        rest.extend(reversed([part for part in target.parts if part != target.anchor]))
    return found


def _is_text(path: Path) -> bool:
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def split(text: str) -> tuple[str, bool]:
    """The path of one of ``shared_folders``, and whether it is read-only."""
    for ending, read_only in ((":ro", True), (":rw", False)):
        if text.endswith(ending):
            return text.removesuffix(ending), read_only
    return text, False


def _outermost(asked: dict[Path, tuple[bool, Path]]) -> list[Path]:
    """Without those that others bring along; the order is kept."""
    kept = []
    for path, (read_only, _) in asked.items():
        around = [other for other in asked if other in path.parents]
        nearest = max(around, key=lambda other: len(other.parts), default=None)
        if nearest is not None and not asked[nearest][0]:
            if read_only:
                raise SettingsError(
                    f"shared_folders: {path} cannot be read-only within {nearest}, which is shared read-write",
                    f"share {nearest} read-only, or folders in it one by one",
                )
            continue
        if nearest is not None and read_only:
            continue
        kept.append(path)
    return kept


def fold_case() -> bool:
    """Whether file names on this computer may usually be written with letters of any case."""
    return sys.platform in ("darwin", "win32")


def is_windows() -> bool:
    return sys.platform == "win32"


def names(folders: Iterable[Folder]) -> list[tuple[Folder, str]]:
    """All paths by which containers may name folders."""
    return [(one, os.fspath(path)) for one in folders for path in dict.fromkeys((one.path, one.named))]
