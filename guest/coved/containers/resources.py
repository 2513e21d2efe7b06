"""Limits of containers: what this machine can set, and dockerd's checks and warnings (its ``verifyPlatformContainerResources``)."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from coved.containers.config_schema import Json
from coved.errors import InvalidParameter
from coved.runtime import cgroups

MINIMUM_MEMORY = 6 << 20
_MAX_CPUS = 8192
_DISCARDED_DEVICES = (
    ("BlkioWeightDevice", "weight_device", "Weight-device discarded."),
    ("BlkioDeviceReadBps", "BPS Block I/O read limit", "Block I/O BPS read limit discarded."),
    ("BlkioDeviceWriteBps", "BPS Block I/O write limit", "Block I/O BPS write limit discarded."),
    ("BlkioDeviceReadIOps", "IOPS Block read limit", "Block I/O IOPS read limit discarded."),
    ("BlkioDeviceWriteIOps", "IOPS Block write limit", "Block I/O IOPS write limit discarded."),
)


@dataclass(frozen=True)
class Machine:
    """What containers can be limited by: cgroup v2 controllers, swap, and the CPUs and memory nodes there are."""

    controllers: frozenset[str]
    swap: bool
    cpus: str
    nodes: str

    @classmethod
    @functools.cache
    def current(cls) -> Machine:
        """The machine that the engine runs on."""
        try:
            root = Path(cgroups.mount_point())
        except cgroups.CgroupError:
            root = Path("/nonexistent")
        system = Path("/sys/devices/system")
        return cls(
            frozenset(_read(root / "cgroup.controllers").split()),
            Path("/proc/swaps").exists(),  # exactly when the kernel can swap, and then cgroups have a limit for it
            _read(root / "cpuset.cpus.effective") or _read(system / "cpu/online"),
            _read(root / "cpuset.mems.effective") or _read(system / "node/online") or "0",
        )


def check(host: Json, machine: Machine, *, update: bool = False) -> list[str]:
    """Take out of ``host`` what the machine cannot do; dockerd's warnings about that.

    Args:
        update: ``host`` has changes to a container, not all of its limits.

    Raises InvalidParameter for limits that cannot be right.
    """
    warnings: list[str] = []
    _check_memory(host, machine, warnings, update=update)
    if host["PidsLimit"] is not None and "pids" not in machine.controllers:
        if host["PidsLimit"] > 0:
            warnings.append(_missing("PIDs limit capabilities", "PIDs limit discarded."))
        host["PidsLimit"] = None
    _check_cpu(host, machine, warnings)
    _check_block_io(host, machine, warnings)
    return warnings


def _missing(what: str, consequence: str) -> str:
    return f"Your kernel does not support {what} or the cgroup is not mounted. {consequence}"


def _check_memory(host: Json, machine: Machine, warnings: list[str], *, update: bool) -> None:
    supported = "memory" in machine.controllers
    if host["Memory"] and host["Memory"] < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if host["Memory"] and not supported:
        warnings.append(_missing("memory limit capabilities", "Limitation discarded."))
        host["Memory"], host["MemorySwap"] = 0, -1
    if host["Memory"] and host["MemorySwap"] != -1 and not machine.swap:
        warnings.append(_missing("swap limit capabilities", "Memory limited without swap."))
        host["MemorySwap"] = -1
    if host["Memory"] and 0 < host["MemorySwap"] < host["Memory"]:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if not host["Memory"] and host["MemorySwap"] > 0 and not update:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    if host["MemorySwappiness"] not in (None, -1):  # cgroup v2 has no such thing
        warnings.append(_missing("memory swappiness capabilities", "Memory swappiness discarded."))
    host["MemorySwappiness"] = None
    if host["MemoryReservation"] > 0 and not supported:
        warnings.append(_missing("memory soft limit capabilities", "Limitation discarded."))
        host["MemoryReservation"] = 0
    if 0 < host["MemoryReservation"] < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if 0 < host["Memory"] < host["MemoryReservation"]:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    if host["OomKillDisable"]:  # nor this
        warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
    host["OomKillDisable"] = None
    if host["Memory"] and not host["MemorySwap"] and not update:
        host["MemorySwap"] = 2 * host["Memory"]


def _check_cpu(host: Json, machine: Machine, warnings: list[str]) -> None:
    supported = "cpu" in machine.controllers
    nano, period, quota = host["NanoCpus"], host["CpuPeriod"], host["CpuQuota"]
    if nano > 0 and period > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if nano > 0 and quota > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if nano > 0 and not supported:
        raise InvalidParameter(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    count = os.cpu_count() or 1
    if not 0 <= nano <= count * 1_000_000_000:
        raise InvalidParameter(f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available")
    if host["CpuShares"] > 0 and not supported:
        warnings.append("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
        host["CpuShares"] = 0
    if (period or quota) and not supported:
        warnings.append("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
        host["CpuPeriod"] = host["CpuQuota"] = period = quota = 0
    if period and not 1000 <= period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host["CpuPercent"] > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        host["CpuPercent"] = 0
    if (host["CpusetCpus"] or host["CpusetMems"]) and "cpuset" not in machine.controllers:
        warnings.append("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
        host["CpusetCpus"] = host["CpusetMems"] = ""
    for field, what, short, available in (
        ("CpusetCpus", "CPUs", "cpus", machine.cpus),
        ("CpusetMems", "memory nodes", "mems", machine.nodes),
    ):
        wanted = host[field]
        try:
            missing = parse_list(wanted) - parse_list(available, trusted=True)
        except ValueError as error:
            raise InvalidParameter(f"Invalid value {wanted} for cpuset {short}: {error}") from None
        if missing:
            raise InvalidParameter(f"Requested {what} are not available - requested {wanted}, available: {available}")


def _check_block_io(host: Json, machine: Machine, warnings: list[str]) -> None:
    supported = "io" in machine.controllers
    weight = host["BlkioWeight"]
    if weight > 0 and not supported:
        warnings.append(_missing("Block I/O weight", "Weight discarded."))
        host["BlkioWeight"] = weight = 0
    if weight and not 10 <= weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if host["IOMaximumBandwidth"] or host["IOMaximumIOps"]:
        raise InvalidParameter("Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps")
    for field, what, consequence in _DISCARDED_DEVICES:
        if host[field] and not supported:
            block = "Block I/O " if field == "BlkioWeightDevice" else ""
            warnings.append(_missing(f"{block}{what}", consequence))
            host[field] = []


def parse_list(text: str, *, trusted: bool = False) -> set[int]:
    """A list such as ``0-3,5`` (cpuset(7), "List format"); of the kernel's own (``trusted``) any size. Raises ValueError."""
    result: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not (first.isascii() and first.isdigit() and (not dash or (last.isascii() and last.isdigit()))):
            raise ValueError(f"invalid format: {text}")
        low, high = int(first), int(last or first)
        if low > high:
            raise ValueError(f"invalid format: {text}")
        if high > _MAX_CPUS and not trusted:
            raise ValueError(f"value of out range, maximum is {_MAX_CPUS}")
        result.update(range(low, high + 1))
    return result


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
