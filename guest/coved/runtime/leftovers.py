"""What a shim that was killed leaves behind: processes, a cgroup, its folder."""

import contextlib
import json
import os
from pathlib import Path

from coved.runtime.cgroups import Cgroup, CgroupError

STATE_FILE = "state.json"


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
