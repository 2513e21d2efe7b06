"""``docker top``: the processes of a container with their ids in the machine, as dockerd's ``ps`` shows them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from coved.errors import EngineError

_WHITESPACE = re.compile(r"[ \t\n\v\f\r]+")
# A column that calls itself PID would make other numbers pass for process ids: dockerd's check, and its words.
_RENAMED = re.compile(r"[\t\n\f\r ]+([^\t\n\f\r ]*)=[\t\n\f\r ]*(PID[^\t\n\f\r ]*)")


_LONGEST = 4096


def check_arguments(ps_args: str) -> None:
    """Raises EngineError for what dockerd does not let through to ps, and for more than anyone can want to see."""
    if len(ps_args) > _LONGEST:
        raise EngineError("ps: argument list too long")
    for name, title in _RENAMED.findall(ps_args):
        if name != "pid":
            raise EngineError(f'specifying "{name}={title}" is not allowed')


def top(cgroup: str, ps_args: str) -> dict[str, Any]:
    """``Titles`` and ``Processes`` of ContainerTopResponse; reads /proc, so not for the event loop's thread.

    Args:
        cgroup: directory of the container's cgroup.
        ps_args: options of ps(1); empty is ``-ef``.

    Raises:
        EngineError: "ps: ..." with what ps would say.
    """
    from coved.containers.ps import listing, options

    try:
        wanted = options.parse([word for word in _WHITESPACE.split(ps_args or "-ef") if word])
        titles = [column.title for column in wanted.columns]
        if "PID" not in titles or not wanted.header:
            raise EngineError("Couldn't find PID field in ps output")
        return {"Titles": titles, "Processes": listing.rows(wanted, processes(cgroup)) or None}
    except options.PsError as error:
        raise EngineError(f"ps: {error}") from None


def processes(cgroup: str) -> list[int]:
    """Ids of all processes in a cgroup and those below it: containers may make cgroups of their own."""
    found: set[int] = set()
    folders = [cgroup]
    while folders:
        folder = folders.pop()
        try:
            found.update(int(pid) for pid in Path(folder, "cgroup.procs").read_text().split() if pid != "0")
            folders += [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # it has been removed; or it is a threaded one, whose processes its parent has
    return sorted(found)
