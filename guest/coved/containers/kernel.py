"""What the running kernel can limit: controllers of cgroup v2, CPUs and memory nodes. Read when a container gets its limits."""

from __future__ import annotations

import os
from dataclasses import dataclass

from coved.runtime.cgroups import CgroupError, mount_point

_IO_WEIGHTS = ("io.weight", "io.bfq.weight")


@dataclass(frozen=True)
class Kernel:
    """``cpus`` and ``mems`` are lists as in cpuset(7), ``0-3,7``; ``io_weight``: bandwidth can be shared by weight."""

    controllers: frozenset[str]
    cpus: str = "0"
    mems: str = "0"
    cpu_count: int = 1
    io_weight: bool = False
    swap: bool = True


def read() -> Kernel:
    """As it is now."""
    try:
        root = mount_point()
    except CgroupError:
        return Kernel(frozenset(), cpu_count=len(os.sched_getaffinity(0)))
    controllers = frozenset(_read(f"{root}/cgroup.controllers").split())
    groups = [entry.path for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]

    def has(name: str) -> bool:
        # The root has no files of limits, and a group has them only when its parent gives it the controller.
        return any(os.path.exists(f"{group}/{name}") for group in groups)  # noqa: PTH110 - on the path of a creation

    return Kernel(
        controllers,
        _read(f"{root}/cpuset.cpus.effective") or _read("/sys/devices/system/cpu/online") or "0",
        _read(f"{root}/cpuset.mems.effective") or _read("/sys/devices/system/node/online") or "0",
        len(os.sched_getaffinity(0)),
        "io" in controllers and any(map(has, _IO_WEIGHTS)),
        "memory" in controllers and os.path.exists("/proc/swaps"),  # noqa: PTH110
    )


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return ""
