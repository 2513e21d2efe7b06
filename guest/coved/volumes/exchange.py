"""Gives a volume other files, whole or not at all: what an engine that is killed meanwhile has moved is moved back at the next start.

A draft (``Volumes.draft``) is a folder on the volumes' file system: ``_data`` with the new entries, ``old`` for those that they
replace, and the journal as long as neither state is complete. docs/decisions/0040
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from coved.runtime import syscalls
from coved.store.trees import copy_attributes, opened_directory, sync, sync_file_system

_NEW, _OLD, _JOURNAL = "_data", "old", "exchange.json"


class NotEmpty(Exception):
    """The volume has content, and that is not to be replaced."""


class NotPutBack(Exception):
    """Of an exchange that was not completed some entries could not be moved back; ``old`` and the journal are still there."""


@dataclass(frozen=True)
class _Journal:
    """``names`` of the new entries; ``times`` of the volume's directory before, in ns."""

    volume: str
    names: list[str]
    times: tuple[int, int]


def exchange(folder: Path, volume: str, target: Path, *, replace: bool, lasting: bool = True) -> None:
    """Moves what is in the draft ``folder`` into ``target``, the directory of the volume, which gets its owner, mode and attributes.

    Containers that use the volume see each entry change at once. Without ``replace`` nothing that is there is touched. What
    fails is undone. With ``lasting`` the new entries are on the disk at the end; else an engine may be killed, but the machine not.

    Raises NotEmpty, OSError; NotPutBack from that.
    """
    new, old = folder / _NEW, folder / _OLD
    names, status, before = os.listdir(new), new.stat(), target.stat()  # noqa: PTH208 - moving changes times
    there = os.listdir(target)  # noqa: PTH208 - names
    if there and not replace:
        raise NotEmpty(volume)
    old.mkdir(mode=0o700)
    _dress(target, old, before)
    _write(folder, _Journal(volume, names, (before.st_atime_ns, before.st_mtime_ns)), lasting)
    try:
        for name in there:
            _move(target / name, old / name, over=False)
        for name in names:
            _move(new / name, target / name, over=replace)
        _dress(new, target, status)
        if lasting:
            _sync_all(target)
    except BaseException as error:
        try:
            undo(folder, target)
        except NotPutBack as also:
            raise also from error
        if isinstance(error, FileExistsError) and not replace:
            raise NotEmpty(volume) from None
        raise
    _end(folder, lasting=lasting)


def unfinished(folder: Path) -> bool:
    """Whether an exchange with this draft has begun and not ended: what is in the draft may be a volume's."""
    return (folder / _JOURNAL).exists()


def volume_of(folder: Path) -> str:
    """The volume of an unfinished exchange; "" when the machine ended before that was on its disk. Raises OSError."""
    journal = _read(folder)
    return "" if journal is None else journal.volume


def undo(folder: Path, target: Path) -> None:
    """Moves back what an unfinished exchange has moved, each entry that can be. Raises NotPutBack, OSError."""
    new, old = folder / _NEW, folder / _OLD
    journal, failed = _read(folder), list[str]()
    for name in journal.names if journal is not None else ():
        if not os.path.lexists(new / name) and os.path.lexists(target / name):
            _try(target / name, new / name, failed)
    if old.exists():
        for name in os.listdir(old):  # noqa: PTH208 - names
            _try(old / name, target / name, failed)
        if journal is not None and not failed:
            _dress(old, target, times_ns=journal.times)
    if failed:
        raise NotPutBack("; ".join(failed[:3]))
    if target.exists():
        _sync_all(target)
    _end(folder)


def give_up(folder: Path, place: Path) -> None:
    """What could not be put back goes to ``place``, an empty directory, and the draft may be deleted. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        (folder / _OLD).rename(place)
    _end(folder)


def _sync_all(directory: Path) -> None:
    with opened_directory(directory) as fd:
        sync_file_system(fd)


def _try(source: Path, target: Path, failed: list[str]) -> None:
    try:
        _move(source, target, over=False)
    except OSError as error:
        failed.append(f"{source.name[:80]!r}: {os.strerror(error.errno or 0).lower()}")


def _move(source: Path, target: Path, *, over: bool) -> None:
    if over:
        source.rename(target)
    else:
        syscalls.rename_new(str(source), str(target))


def _dress(
    source: Path, target: Path, status: os.stat_result | None = None, times_ns: tuple[int, int] = (0, 0)
) -> None:
    """Gives a directory the owner, mode and attributes of another, and the times of ``status``."""
    with opened_directory(source) as source_fd, opened_directory(target) as target_fd:
        if status is None:
            status = os.fstat(source_fd)
        else:
            times_ns = status.st_atime_ns, status.st_mtime_ns
        os.fchown(target_fd, status.st_uid, status.st_gid)
        os.fchmod(target_fd, stat.S_IMODE(status.st_mode))
        copy_attributes(source_fd, target_fd)
        os.utime(target_fd, ns=times_ns)


def _write(folder: Path, journal: _Journal, lasting: bool) -> None:
    """There is no journal, or all of it; names of any bytes are kept by JSON's escapes."""
    draft = folder / f"{_JOURNAL}.new"
    with draft.open("x") as file:
        json.dump(asdict(journal), file)
        if lasting:
            file.flush()
            os.fsync(file.fileno())
    draft.rename(folder / _JOURNAL)
    if lasting:
        sync(folder)


def _read(folder: Path) -> _Journal | None:
    """None when its content has not come to the disk before the machine ended. Raises OSError."""
    try:
        found = json.loads((folder / _JOURNAL).read_text())
        return _Journal(found["volume"], found["names"], tuple(found["times"]))
    except (ValueError, KeyError, TypeError):
        return None


def _end(folder: Path, *, lasting: bool = True) -> None:
    (folder / _JOURNAL).unlink(missing_ok=True)
    if lasting:
        sync(folder)
