"""Files and folders of this computer, which no cluster has: what becomes of their mounts."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from cove.errors import CoveError
from cove.kube.generate import terms
from cove.kube.generate.model import Application, File, Mount, Note, Source, Workload

CHOICES = ("refuse", "configmap", "ignore")
MOST_BYTES = 1 << 20
"""What a ConfigMap holds (its size is etcd's)."""


class Binds:
    """`choice` is for all mounts of an application. Refused ones are gathered, to be told all at once."""

    def __init__(self, choice: str) -> None:
        self._choice = choice
        self._refused: list[str] = []

    def mount(self, application: Application, workload: Workload, name: str, path: str, target: str) -> None:
        """Raises `CoveError` for what a ConfigMap cannot hold."""
        if self._choice == "refuse":
            self._refused.append(f"{name}: {path} at {target}")
        elif self._choice == "ignore":
            application.notes.append(Note(name, f"the mount of {path} at {target}: nothing is there"))
        else:
            source, key = _held(application, name, path)
            workload.mounts.append(Mount(target, source=source, key=key, read_only=True))
            text = f"{path} is a copy in a ConfigMap, which the container can only read"
            application.notes.append(Note(name, text, lost=False))

    def check(self) -> None:
        """Raises `CoveError` when there were some that are refused."""
        if self._refused:
            raise CoveError(
                "files of this computer are mounted, which a cluster does not have\n" + "\n".join(self._refused),
                "--bind-mounts configmap carries a copy of small ones, --bind-mounts ignore leaves them out",
            )


def _held(application: Application, name: str, path: str) -> tuple[str, str]:
    """The source with the files, and its key for a file that is mounted alone."""
    identifier = f"bind/{path}"
    found = Path(path)
    try:
        mode = found.stat().st_mode
        if stat.S_ISREG(mode):
            files = {"content": read_file(found, MOST_BYTES, path)}
        elif stat.S_ISDIR(mode):
            files = _folder(found)
        else:
            raise CoveError(f"{name}: {path} is neither a file nor a folder, and cannot be carried to a cluster")
    except OSError as error:
        raise CoveError(f"{name}: {error.filename or path}: {error.strerror}") from error
    digest = hashlib.sha256(path.encode()).hexdigest()[:6]
    made = f"{application.name}-{terms.label(found.name or 'root')[:20].rstrip('-')}-{digest}"
    application.sources[identifier] = Source(made, files)
    return identifier, "content" if stat.S_ISREG(mode) else ""


def _folder(folder: Path) -> dict[str, File]:
    """All of it or nothing: raises `CoveError` for links that it would need to follow, `OSError` for what cannot be read."""
    files: dict[str, File] = {}
    left = MOST_BYTES
    whole = folder.resolve()
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders.sort()
        for name in folders:
            if Path(place, name).is_symlink():
                raise CoveError(f"{Path(place, name)} is a link to a folder, and cannot be carried to a cluster")
        for name in sorted(names):
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(whole):
                raise CoveError(f"{path} is a link that leads out of {folder}, and cannot be carried to a cluster")
            file = read_file(path, left, str(folder))
            files[path.relative_to(folder).as_posix()] = file
            left -= len(file.content)
    return files


def _raise(error: OSError) -> None:
    raise error


def read_file(path: Path, most: int, whole: str) -> File:
    """Raises `CoveError` for one that is larger than `most`, or something else than a file."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise CoveError(f"{path} is no file, and a ConfigMap or a Secret holds nothing else")
    with path.open("rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise CoveError(f"{whole} has more than the 1 MiB that a ConfigMap or a Secret holds")
    return File(content, executable=bool(path.stat().st_mode & 0o100))
