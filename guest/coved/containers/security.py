"""``--security-opt``: what a container may do beyond its capabilities. Words are dockerd's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from coved.containers.config_schema import Json
from coved.errors import EngineError

_APPARMOR = "/sys/module/apparmor/parameters/enabled"
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
UNCONFINED = "unconfined"


@dataclass(frozen=True)
class SecurityOptions:
    """``seccomp``: a profile's JSON, ``unconfined``, or "" for the default one. ``apparmor``: a profile's name or "".

    Labels are SELinux's, which this engine does not have: they are taken and mean nothing, as with dockerd.
    """

    seccomp: str = ""
    apparmor: str = ""
    no_new_privileges: bool = False
    writable_cgroups: bool = False


def parse(options: Sequence[str]) -> SecurityOptions:
    """Raises EngineError, as dockerd answers with status 500."""
    seccomp, apparmor = "", ""
    switches = {"no-new-privileges": False, "writable-cgroups": False}
    for option in options:
        if option == "no-new-privileges":
            switches[option] = True
            continue
        if option == "disable":
            continue
        name, separator, value = option.partition("=" if "=" in option else ":")
        if not separator:
            raise EngineError(f'invalid --security-opt 1: "{option}"')
        if name == "seccomp":
            seccomp = "" if value == "builtin" else value
        elif name == "apparmor":
            apparmor = value
        elif name in switches and value in (*_TRUE, *_FALSE):
            switches[name] = value in _TRUE
        elif name != "label":
            raise EngineError(f'invalid --security-opt 2: "{option}"')
    return SecurityOptions(seccomp, apparmor, switches["no-new-privileges"], switches["writable-cgroups"])


def apparmor_enabled() -> bool:
    """Whether the kernel runs with AppArmor."""
    try:
        fd = os.open(_APPARMOR, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(fd, 1) == b"Y"
    finally:
        os.close(fd)


def warnings(host: Json) -> list[str]:
    """What a create answers with. dockerd drops a profile without a word where the kernel has no AppArmor; a confinement
    that was asked for and is not had is worth one."""
    profile = parse(host["SecurityOpt"] or ()).apparmor
    if profile not in ("", UNCONFINED) and not apparmor_enabled():
        return [f"Your kernel does not support AppArmor or it is not enabled. Profile {profile} discarded."]
    return []
