"""Machines as files: made, listed, removed. What runs is the agent's business."""

from __future__ import annotations

import shutil

from cove.errors import MachineBusy, MachineExists, MachineNotFound
from cove.machine import autostart, docker_context, remote, usual_socket
from cove.machine.files import write_whole
from cove.machine.locks import FileLock
from cove.machine.paths import DEFAULT_MACHINE, MachinePaths, is_name, machines_dir
from cove.machine.remote import Remote
from cove.machine.running import vm_may_run
from cove.machine.settings import Settings, render

LAUNCHING_S = 10.0
"""For a command that is just starting the machine's agent."""


def init(name: str, settings: Settings | None = None, on: Remote | None = None) -> MachinePaths:
    """Make machine `name`, and its docker context unless a machine of another COVE_HOME has that. Raises `MachineExists`, `CoveError`.

    ``on``: the other computer that its engine runs on; it is a VM otherwise.
    """
    paths = absent(name)
    paths.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if on is not None:
        remote.save(paths, on)
    write_whole(paths.settings, render(settings or Settings()).encode())
    paths.make_run_dir()
    if not docker_context.is_anothers(paths):
        docker_context.create(paths)
    return paths


def absent(name: str) -> MachinePaths:
    """The paths of a machine that is to be made. Raises `MachineExists`."""
    paths = MachinePaths(name)
    if paths.settings.exists():
        raise MachineExists(
            f"the machine {name} exists already", f"change it with: cove machine config set -m {name} KEY VALUE"
        )
    return paths


def names() -> list[str]:
    """All machines. A folder that no machine can have, such as a copy default.bak, is none."""
    root = machines_dir()
    found = root.glob("*/machine.toml") if root.is_dir() else ()
    return sorted(path.parent.name for path in found if is_name(path.parent.name))


def existing(name: str) -> MachinePaths:
    """The paths of a machine that is there. Raises `MachineNotFound`."""
    paths = MachinePaths(name)
    if not paths.settings.exists():
        if name == DEFAULT_MACHINE:
            raise MachineNotFound(
                f"there is no machine {name} yet", "the first command that needs one makes it; or: cove machine start"
            )
        raise MachineNotFound(f"there is no machine {name}", f"make it with: cove machine init {name}")
    return paths


def check_stopped(paths: MachinePaths) -> None:
    """Raises `MachineBusy`. Who holds the `launch_lock` knows that it stays so."""
    if not FileLock(paths.lock).is_free() or vm_may_run(paths):
        raise MachineBusy(f"the machine {paths.name} is running", f"stop it first: cove machine stop {paths.name}")


def remove(name: str) -> None:
    """Remove a machine that does not run, with all its data, and its docker context. Raises `MachineBusy`, `MachineNotFound`."""
    paths = existing(name)
    with FileLock(paths.launch_lock) as launching:
        launching.acquire(LAUNCHING_S, f"the start of machine {name}")
        existing(name)  # somebody else may have removed it meanwhile
        check_stopped(paths)
        docker_context.remove(paths)
        usual_socket.remove(paths)
        autostart.forget(name)
        shutil.rmtree(paths.folder)
        shutil.rmtree(paths.run_dir, ignore_errors=True)
