"""What the running kernel can limit: controllers of cgroup v2, CPUs and memory nodes. Read when a container gets its limits."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

from coved.runtime.cgroups import CgroupError, mount_point

_IO_WEIGHTS = ("io.weight", "io.bfq.weight")


@dataclass(frozen=True)
class Kernel:
    """What one can do. ``cpus`` and ``mems`` are lists as in cpuset(7), ``0-3,7``; ``io_weight``: bandwidth can be shared by weight."""

    controllers: frozenset[str]
    cpus: str = "0"
    mems: str = "0"
    cpu_count: int = 1
    io_weight: bool = False
    swap: bool = True


class Running:
    """The running kernel, as it is when a thing is first asked for: most containers have no limits, and ask for next to nothing."""

    @functools.cached_property
    def controllers(self) -> frozenset[str]:
        return frozenset(_read(f"{self._root}/cgroup.controllers").split() if self._root else ())

    @functools.cached_property
    def cpus(self) -> str:
        return self._there("cpuset.cpus.effective", "/sys/devices/system/cpu/online")

    @functools.cached_property
    def mems(self) -> str:
        return self._there("cpuset.mems.effective", "/sys/devices/system/node/online")

    @property
    def cpu_count(self) -> int:
        return len(os.sched_getaffinity(0))

    @functools.cached_property
    def swap(self) -> bool:
        return "memory" in self.controllers and os.path.exists("/proc/swaps")  # noqa: PTH110

    @functools.cached_property
    def io_weight(self) -> bool:
        if "io" not in self.controllers:
            return False
        # The root has no files of limits, and a group has them only when its parent gives it the controller.
        groups = [entry.path for entry in os.scandir(self._root) if entry.is_dir(follow_symlinks=False)]
        return any(os.path.exists(f"{group}/{name}") for name in _IO_WEIGHTS for group in groups)  # noqa: PTH110

    @functools.cached_property
    def _root(self) -> str:
        try:
            return mount_point()
        except CgroupError:
            return ""

    def _there(self, group_file: str, online: str) -> str:
        return (self._root and (_read(f"{self._root}/{group_file}") or _read(online))) or "0"


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return ""
