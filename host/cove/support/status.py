"""What a machine does, and all that is told of it: `cove machine status`, and the dashboard."""

from __future__ import annotations

from typing import Any

from cove.agent import unattended
from cove.agent.client import NoAgent, ask
from cove.drivers.qemu.qcow2 import allocated
from cove.machine import crashes, lifecycle
from cove.machine.architecture import named
from cove.machine.paths import MachinePaths
from cove.support import folders

ANSWER_S = 10.0


def of(name: str) -> dict[str, Any]:
    """Of a machine that is there. Raises `CoveError`."""
    paths = lifecycle.existing(name)
    try:
        value = ask(paths, "status", ANSWER_S)
        value.pop("done", None)
    except NoAgent:
        value = unattended.status(paths)
    if lost := value.pop("lost_ports", None):
        from cove.support import lost_ports

        value["lost_ports"] = [each.shown() for each in lost_ports.named(paths, lost)]
    if (last := crashes.load(paths)) is not None:
        value["last_crash"] = last.shown(paths)
    shared = (
        [one["path"] for one in value.get("folders", ())]
        if value["state"] == "running" and "folders" in value
        else None
    )
    if lacking := folders.not_shared(paths, shared):
        value["folders_not_shared"] = lacking
    used = allocated(paths.disk) if paths.disk.exists() else None
    if paths.vhdx.exists():
        used = paths.vhdx.stat().st_size
    return {
        "machine": name, **value, "images": images(paths), "disk_used": used, "docker_socket": str(paths.docker_socket),
    }  # fmt: skip


def images(paths: MachinePaths) -> dict[str, Any]:
    """Digests: the image that the machine uses, the one that it can go back to, the newest (null: yet to be made), and one that has
    not come to answer; and whether it stays with its own, or with that one (``pinned``)."""
    from cove.image import store
    from cove.machine import systems
    from cove.support.findings import settings_of

    # With settings, or a policy, that nothing starts with a machine can be looked at and stopped all the same.
    noted, newest = systems.load(paths), store.current(named(settings_of(paths).architecture))
    return {
        "used": noted.used or None,
        "before": noted.before if store.find(noted.before) else None,
        "newest": newest.digest if newest else None,
        "failed": noted.trying or None,
        "pinned": noted.pinned,
    }
