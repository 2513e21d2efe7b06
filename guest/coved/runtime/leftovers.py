"""What a shim that was killed leaves behind: processes, a cgroup, its folder. And the end of one that does not answer."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from typing import TYPE_CHECKING

from coved.runtime.cgroups import Cgroup, CgroupError

if TYPE_CHECKING:
    from pathlib import Path

STATE_FILE = "state.json"
SHIM_NAME = "shim:{:.10}"
"""Of the process, with the container's id."""
_KILL_S = 5.0


def write_state(folder: str, cgroups_path: str, container_id: str) -> None:
    """What :func:`clean_up` needs to know. A crash of the whole machine takes the folder along: no fsync."""
    fd = os.open(f"{folder}/{STATE_FILE}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps({"id": container_id, "cgroup": cgroups_path}).encode())
    finally:
        os.close(fd)


def clean_up(folder: Path) -> None:
    """Kill the container's processes and remove its cgroup and folder. Its shim must be dead; bounded to seconds."""
    try:
        state = json.loads((folder / STATE_FILE).read_bytes())
    except (OSError, ValueError):
        state = {}
    if cgroups_path := state.get("cgroup"):
        with contextlib.suppress(CgroupError):
            Cgroup(cgroups_path).remove()
    import shutil  # not for every start

    shutil.rmtree(folder, ignore_errors=True)


def end(folder: Path, container_id: str, pid: int) -> None:
    """Kill the container's shim, which is ``pid`` unless it has ended meanwhile, and clean up. Bounded to seconds."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            # Read once the descriptor is there: from then on the number is nobody else's.
            if _name_of(pid) == SHIM_NAME.format(container_id):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                poll = select.poll()
                poll.register(pidfd, select.POLLIN)
                poll.poll(_KILL_S * 1000)
        finally:
            os.close(pidfd)
    clean_up(folder)


def _name_of(pid: int) -> str:
    with open(f"/proc/{pid}/comm") as file:
        return file.read().removesuffix("\n")
