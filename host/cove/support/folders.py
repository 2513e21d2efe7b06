"""The check of shared folders: what is shared, by what, and what is in the way."""

from __future__ import annotations

from cove.agent.client import NoAgent, ask
from cove.machine.locks import FileLock
from cove.machine.paths import MachinePaths
from cove.support.findings import NOTE, OK, PROBLEM, Found, cove_of


def look(paths: MachinePaths) -> Found:
    if FileLock(paths.vm_lock).is_free() or paths.down.exists():
        yield NOTE, "no folders are shared while the machine does not run"
        return
    try:
        told = ask(paths, "status", 4)
    except NoAgent:
        yield NOTE, "the machine's agent, which knows its folders, does not run"
        return
    folders = told.get("folders") or []
    for one in folders:
        what = f"{one['path']} ({one['access']}, by {one['driver']})"
        if one["state"] == "shared":
            yield OK, f"containers can use {what}"
        else:
            yield (
                PROBLEM,
                f"containers cannot use {what}: {one['state']}",
                f"restart the machine: cove machine restart {paths.name}; another driver may do: {cove_of(paths)} config set"
                f" folder_driver agent. What the folders' servers said: {paths.folders_log}",
            )
    if not folders:
        yield NOTE, f"no folders of this computer are shared ({cove_of(paths)} config set share_home read-write)"
    elif reason := told.get("folder_driver_reason"):
        yield NOTE, f"nothing faster carries folders here: {reason}"
