"""All checks of a machine and of the computer that it is on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

from cove.machine.paths import MachinePaths
from cove.support import computer, far, folders, machine, outside
from cove.support.findings import Check

OF_A_MACHINE = ("disk", "processes", "engine", "clock", "ports", "folders", "registry")
"""Those that have nothing to look at before there is one."""
OF_A_VM = ("qemu", "virtualisation", "image", "disk", "clock")


def checks(name: str, environment: Mapping[str, str] | None = None) -> list[Check]:
    """In the order in which they are told. They need neither a machine nor one that runs, and start nothing."""
    paths = MachinePaths(name)
    environment = os.environ if environment is None else environment
    return [
        Check("versions", computer.look_at_versions),
        Check("policy", computer.look_at_policy),
        Check("settings", partial(computer.look_at_settings, paths, environment)),
        Check("qemu", partial(computer.look_at_hypervisor, paths), 12),
        Check("virtualisation", partial(computer.look_at_virtualisation, paths), 25),
        Check("room", computer.look_at_room),
        Check("image", partial(computer.look_at_image, paths), 20),
        Check("disk", partial(machine.look_at_disk, paths), 20),
        Check("permissions", partial(computer.look_at_permissions, paths)),
        Check("processes", partial(machine.look_at_processes, paths), 12),
        Check("engine", partial(machine.look_at_engine, paths), machine.ENGINE_S + 2),
        Check("clock", partial(machine.look_at_clock, paths), machine.ENGINE_S + 2),
        Check("ports", partial(machine.look_at_ports, paths), 20),
        Check("folders", partial(folders.look, paths), 8),
        Check("proxy", partial(outside.look_at_proxy, paths, environment), 25),
        Check("certificates", partial(outside.look_at_certificates, paths), 20),
        Check("names", computer.look_at_name_service, 8),
        Check("registry", partial(machine.look_at_registry, paths), machine.REGISTRY_S + 2),
        Check("docker", partial(computer.look_at_docker, paths, environment), 8),
    ]


def checks_of(paths: MachinePaths) -> list[Check]:
    """Those that have something to look at: whatever asks a machine has the same to say of one that was never made."""
    every = checks(paths.name)
    if paths.remote.exists():
        kept = [each for each in every if each.name not in OF_A_VM]
        return [Check("host", partial(far.look, paths), 70), *kept]
    return every if paths.settings.exists() else [each for each in every if each.name not in OF_A_MACHINE]
