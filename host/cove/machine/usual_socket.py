"""~/.docker/run/docker.sock, where Docker Desktop has a user's socket: a link to the default machine's, for programs that read no docker
contexts and look there (testcontainers of Node and of Java).

Others have a link there as well, to a socket that may be away for now. So what a link of Cove's leads to is kept beside it, and no
other one is replaced.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from cove.machine import docker_context
from cove.machine.paths import DEFAULT_MACHINE, MachinePaths


def path() -> Path:
    return Path.home() / ".docker/run/docker.sock"


def create(paths: MachinePaths) -> None:
    """Have the link of the default machine there, unless the place is another's. That it cannot be made is no reason not to start."""
    if paths.name != DEFAULT_MACHINE or not _is_looked_at() or leads_to(paths):
        return
    place = path()
    with contextlib.suppress(OSError):
        if os.path.lexists(place):
            if not _is_left_over(place):
                return
            place.unlink()
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _record().write_bytes(os.fsencode(paths.docker_socket))  # first: without it the link would be nobody's
        place.symlink_to(paths.docker_socket)


def remove(paths: MachinePaths) -> None:
    """Remove the link, if it is of this very machine."""
    if leads_to(paths):
        with contextlib.suppress(OSError):
            path().unlink()
            _record().unlink(missing_ok=True)
            path().parent.rmdir()  # ours, when nothing else is in it


def _record() -> Path:
    return path().with_name("docker.sock.cove")


def _is_left_over(place: Path) -> bool:
    """Cove's own link, to a machine that is gone: its sockets' folder is, too."""
    target = place.readlink()
    return os.fsencode(target) == _record().read_bytes() and not target.parent.is_dir()


def leads_to(paths: MachinePaths) -> bool:
    try:
        return path().readlink() == paths.docker_socket
    except (OSError, RuntimeError):
        return False


def _is_looked_at() -> bool:
    """Who has docker's files elsewhere is made none in ~/.docker; Windows' programs look for a pipe."""
    try:
        return sys.platform != "win32" and docker_context.folder() == Path.home() / ".docker"
    except RuntimeError:  # no home
        return False
