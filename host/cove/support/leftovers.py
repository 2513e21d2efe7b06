"""All that Cove has made on this computer, and how it goes again."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cove.agent import removal
from cove.errors import CoveError
from cove.machine import autostart, docker_context, lifecycle, usual_socket
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths, cache_dir, config_dir, data_dir, images_dir, machines_dir, runtime_dir
from cove.machine.sizes import approximate_size

Warn = Callable[[str], None]


def _nobody(words: str) -> None:
    """Hears what there is to be told."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """`what` it is in words; `path` a file or a folder with all in it; `size` in bytes of disk."""

    what: str
    path: Path
    size: int

    def shown(self) -> dict[str, Any]:
        return {"what": self.what, "path": str(self.path), "bytes": self.size}


def of_reset(paths: MachinePaths) -> list[Leftover]:
    """What goes when a machine becomes as new: all but its settings, the choice of its VM image, and its locks, which must be one for
    whoever has them open."""
    keep = {paths.settings, paths.systems, paths.settings_lock, paths.lock, paths.vm_lock}
    found = sorted(paths.folder.iterdir()) if paths.folder.is_dir() else []
    return [Leftover(path.name, path, _size(path)) for path in found if path not in keep]


def reset(paths: MachinePaths, warn: Warn = _nobody) -> int:
    """Make a machine that does not run as new, and return how many bytes are free for it. Raises `MachineBusy`, `CoveError`.

    ``warn`` is told of what may be left, here and below.
    """
    with FileLock(paths.launch_lock) as launching:
        launching.acquire(lifecycle.LAUNCHING_S, f"the start of machine {paths.name}")
        lifecycle.check_stopped(paths)
        gone = of_reset(paths)
        removal.take_away(paths, warn)
        for each in gone:
            _remove(each.path)
    return sum(each.size for each in gone)


def of_uninstall(*, keep_data: bool) -> list[Leftover]:
    """Everything of Cove's that there is, but with `keep_data` the machines. The program itself is the package manager's."""
    _check_home()
    found = []
    for name in lifecycle.names():
        meta = docker_context.meta_file(name)
        if docker_context.is_of(MachinePaths(name)):
            found.append(Leftover(f"docker context {docker_context.name_for(name)}", meta.parent, _size(meta.parent)))
        if usual_socket.leads_to(MachinePaths(name)):
            found.append(Leftover(f"link to the socket of machine {name}", usual_socket.path(), 0))
        for entry in autostart.files(name):
            found.append(Leftover(f"what your login starts of machine {name}", entry, _size(entry)))
        if not keep_data:
            folder = MachinePaths(name).folder
            found.append(
                Leftover(f"machine {name}: containers, images, volumes, settings, keys", folder, _size(folder))
            )
    if keep_data:
        places = [(images_dir(), "VM images"), (cache_dir(), "downloads"), (runtime_dir(), "sockets")]
    else:
        places = [
            (images_dir(), "VM images"), (data_dir(), "what else is in Cove's data"), (cache_dir(), "downloads"),
            (config_dir(), "Cove's own configuration"), (runtime_dir(), "sockets"),
        ]  # fmt: skip
    listed = [each.path for each in found]
    for path, what in places:
        if os.path.lexists(path):
            size = _size(path) - sum(_size(each) for each in listed if path in each.parents)
            found.append(Leftover(what, path, max(0, size)))
            listed.append(path)
    return found


def uninstall(gone: Sequence[Leftover], warn: Warn = _nobody, *, keep_data: bool) -> None:
    """Remove what `of_uninstall` has listed. Raises `MachineBusy` when a machine runs, `CoveError` when something cannot be removed."""
    names = lifecycle.names()
    for name in names:
        lifecycle.check_stopped(MachinePaths(name))
    if not keep_data:  # first: this alone may be refused, and then the machine is still whole
        for name in names:
            removal.take_away(MachinePaths(name), warn)
    for name in names:
        docker_context.remove(MachinePaths(name))
        usual_socket.remove(MachinePaths(name))
        autostart.forget(name)
    for each in gone:
        _remove(each.path)
    for folder in (machines_dir(), data_dir(), config_dir(), cache_dir(), *_home(), *_around_sockets()):
        if keep_data and folder in (machines_dir(), data_dir()):
            continue
        with contextlib.suppress(OSError):  # what is not empty has something that is not Cove's
            folder.rmdir()
    if names:
        with contextlib.suppress(OSError):
            docker_context.folder().rmdir()  # made for a context, when docker has never been used


def size_of(gone: Iterable[Leftover]) -> str:
    return approximate_size(sum(each.size for each in gone))


def _home() -> list[Path]:
    home = os.environ.get("COVE_HOME")
    return [Path(home).absolute()] if home else []


def _around_sockets() -> list[Path]:
    """On macOS the folder of sockets is in one of ours; elsewhere in one of the system's."""
    around = runtime_dir().parent
    return [around] if around == Path.home() / ".cove" else []


def _check_home() -> None:
    """A folder that holds more than Cove's is not emptied by us: `COVE_HOME=~` would make ~/data ours."""
    for home in _home():
        real = home.resolve()
        if real in (Path.home().resolve(), *Path.home().resolve().parents):
            raise CoveError(
                f"COVE_HOME is {home}, which has other things in it than Cove's: nothing is removed",
                f"remove by hand what is Cove's: {home / 'data'}, {home / 'config'}, {home / 'cache'}, {home / 'run'}",
            )


def _size(path: Path) -> int:
    """Bytes of disk that a file or a folder takes; links are not followed."""
    total = 0
    with contextlib.suppress(OSError):
        info = path.lstat()
        total = info.st_size
        if sys.platform != "win32":
            total = info.st_blocks * 512
        if path.is_dir() and not path.is_symlink():
            total += sum(_size(each) for each in path.iterdir())
    return total


def _remove(path: Path) -> None:
    """Remove a file or a folder with all in it; of a symbolic link, the link. Raises `CoveError`."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CoveError(
            f"{error.filename or path} cannot be removed: {error.strerror}",
            f"what is left can be removed with: sudo rm -r '{path}'",
        ) from error
