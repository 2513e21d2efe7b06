"""Figures about the machine that the engine runs on, for ``GET /info``. All of it is read when it is asked for."""

import os
from pathlib import Path

from coved.runtime import mountinfo
from coved.runtime.cgroups import CgroupError, mount_point

_UNKNOWN = "<unknown>"

# Field of /info, the controller that it needs, and the words of dockerd's warning when that is missing.
_LIMITS = (
    ("MemoryLimit", "memory", "No memory limit support"),
    ("SwapLimit", "memory", "No swap limit support"),
    ("CpuCfsPeriod", "cpu", "No cpu cfs period support"),
    ("CpuCfsQuota", "cpu", "No cpu cfs quota support"),
    ("CPUShares", "cpu", "No cpu shares support"),
    ("CPUSet", "cpuset", "No cpuset support"),
    ("PidsLimit", "pids", "No pids limit support"),
)


def os_release() -> dict[str, str]:
    """The fields of os-release(5)."""
    for path in (Path("/etc/os-release"), Path("/usr/lib/os-release")):
        try:
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
        return {key: value.strip("\"'") for key, _, value in pairs}
    return {}


def operating_system() -> str:
    return os_release().get("PRETTY_NAME", _UNKNOWN)


def memory() -> int:
    """Memory of the machine, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cgroup_controllers() -> frozenset[str]:
    """The controllers of the cgroup v2 hierarchy, wherever it is mounted."""
    try:
        return frozenset(Path(mount_point(), "cgroup.controllers").read_text().split())
    except (OSError, CgroupError):
        return frozenset()


def limits(controllers: frozenset[str]) -> dict[str, bool]:
    """Which resource limits containers can have."""
    return {field: controller in controllers for field, controller, _ in _LIMITS}


def warnings(limits: dict[str, bool]) -> list[str]:
    """dockerd's warnings about limits that will be discarded."""
    return [f"WARNING: {words}" for field, _, words in _LIMITS if not limits[field]]


def security_options(*, userns: bool) -> list[str]:
    """How containers are confined."""
    from coved.containers.security import apparmor_enabled

    apparmor = ["name=apparmor"] if apparmor_enabled() else []
    return [*apparmor, "name=seccomp,profile=builtin", *(["name=userns"] if userns else []), "name=cgroupns"]


def driver_status(root: Path) -> list[list[str]]:
    return [
        ["Backing Filesystem", _file_system(root)],
        ["Supports d_type", "true"],
        ["Using metacopy", "false"],
        ["Native Overlay Diff", "true"],
        ["userxattr", "false"],
    ]


def ipv4_forwarding() -> bool:
    try:
        return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    except OSError:
        return False


def open_descriptors() -> int:
    return sum(1 for _ in os.scandir("/proc/self/fd"))


def _file_system(path: Path) -> str:
    """The type of the file system of a path."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    return next((mounted.kind for mounted in mountinfo.entries() if mounted.device == wanted), _UNKNOWN)
