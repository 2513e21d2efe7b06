"""The check of shared folders: what is shared, by what, and what is in the way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from cove.agent.client import NoAgent, ask
from cove.errors import CoveError
from cove.machine import effective, remote
from cove.machine.paths import MachinePaths
from cove.machine.running import vm_may_run
from cove.share.folders import NOT_YET, SHARED, wanted
from cove.support.findings import NOTE, OK, PROBLEM, WARNING, Found, cove_of


def _no_carrier(paths: MachinePaths) -> str:
    """Why no folder can be shared with the machine, whatever its settings; "" when some can."""
    with contextlib.suppress(CoveError):
        if (there := remote.load(paths)) is not None and not there.is_ours:
            return f"folders of this computer are not for the {there.engine} of another one"
    return ""


def not_shared(paths: MachinePaths, shared: Iterable[str] | None) -> list[str]:
    """Of each folder of the settings that containers cannot use: which it is, and why. ``shared``: what a machine that runs has.

    None are told of settings that are broken.
    """
    try:
        listed, said = wanted(effective.load(paths.settings))
    except CoveError:
        return []
    has = None if shared is None else set(shared)
    if why := _no_carrier(paths):
        return [*said, *(f"{one.path} is not shared: {why}" for one in listed)]
    late = [one.path for one in listed if has is not None and str(one.path) not in has]
    return [*said, *(f"{path} is not shared yet: the machine was started without it" for path in late)]


def way_out(paths: MachinePaths) -> str:
    """What to do about them."""
    if _no_carrier(paths):
        return "have the files in an image, or copy them into a container: cove cp"
    return f"when the folders, or the settings ({cove_of(paths)} config edit), are right: cove machine restart {paths.name}"


def _of_one(paths: MachinePaths, state: str) -> str:
    """What to do about one that containers cannot use."""
    again = f"restart the machine: cove machine restart {paths.name}"
    if not paths.remote.exists():
        return f"{again}; another folder_driver may do (docs/folders.md). What the folders' servers said: {paths.folders_log}"
    if "has no 9p" in state:
        from cove.remote.kernel import HINT_9P  # for who has such a machine

        return f"{HINT_9P}, and {again}; or do without folders (docs/remote-hosts.md)"
    return f"{again}. What was tried: cove machine logs --agent {paths.name}"


def look(paths: MachinePaths) -> Found:
    told = {}
    if not vm_may_run(paths) or paths.down.exists():
        yield NOTE, "no folders are shared while the machine does not run"
    else:
        try:
            told = ask(paths, "status", 4)
        except NoAgent:
            yield NOTE, "the machine's agent, which knows its folders, does not run"
    if told.get("state") == "unreachable":
        yield NOTE, "the other computer cannot be reached, so that nothing can be said of the folders there"
        return
    folders = told.get("folders") or []
    for words in not_shared(paths, [one["path"] for one in folders] if told else None):
        yield NOTE if _no_carrier(paths) else WARNING, f"of the folders in the settings, {words}", way_out(paths)
    if not told:
        return
    for one in folders:
        what = f"{one['path']} ({one['access']}, by {one['driver']})"
        if one["state"] == SHARED:
            yield OK, f"containers can use {what}"
        elif one["state"] == NOT_YET:
            yield NOTE, f"the machine is about to mount {what}"
        else:
            yield PROBLEM, f"containers cannot use {what}: {one['state']}", _of_one(paths, one["state"])
    if not folders and not _no_carrier(paths):
        yield NOTE, f"no folders of this computer are shared ({cove_of(paths)} config set share_home read-write)"
