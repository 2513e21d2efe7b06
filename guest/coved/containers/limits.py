"""Limits of a container's resources: what cannot be is refused, what this kernel cannot limit is discarded with a warning.

Order and words are dockerd's (``verifyPlatformContainerResources``), whose clients know them.
"""

from __future__ import annotations

from coved.containers.config_schema import Json
from coved.containers.kernel import Kernel, Running
from coved.errors import EngineError, InvalidParameter

MINIMUM_MEMORY = 6 << 20
_MAX_CPU = 8192
_NS = 1_000_000_000


def check(host: Json, machine: Kernel | Running | None = None, *, update: bool = False) -> list[str]:
    """Check the limits in ``host`` and take away what this kernel cannot limit; the warnings about that.

    Args:
        host: HostConfig, changed in place.
        machine: what the kernel can do; the running one when None.
        update: these are changes of a container that has limits already.

    Raises:
        InvalidParameter, EngineError: in dockerd's words, and with its status.
    """
    machine = machine or Running()
    if not update:
        _only_elsewhere(host)
    warnings: list[str] = []
    _memory(host, machine, warnings, update=update)
    _processes(host, machine, warnings)
    _cpu(host, machine, warnings)
    _cpusets(host, machine, warnings)
    _io(host, machine, warnings)
    return warnings


def _only_elsewhere(host: Json) -> None:
    """What dockerd refuses as it reads a create request, with another status than what it looks at later."""
    if host["CpuRealtimePeriod"] or host["CpuRealtimeRuntime"]:
        # cgroup v2 has no such thing, and dockerd has looked at both before it looks at the controller.
        raise EngineError("Your kernel does not support CPU real-time scheduler")
    if host["IOMaximumBandwidth"]:
        raise EngineError("Invalid QoS settings: linux does not support configuration of maximum bandwidth")
    if host["IOMaximumIOps"]:
        raise EngineError("Invalid QoS settings: linux does not support configuration of maximum IOPs")


def _memory(host: Json, machine: Kernel | Running, warnings: list[str], *, update: bool) -> None:
    if host["Memory"] and host["Memory"] < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if host["Memory"] > 0 and "memory" not in machine.controllers:
        warnings.append(
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
        )
        host["Memory"], host["MemorySwap"] = 0, -1
    if host["Memory"] > 0 and host["MemorySwap"] != -1 and not machine.swap:
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
        host["MemorySwap"] = -1
    memory, swap = host["Memory"], host["MemorySwap"]
    if memory > 0 and 0 < swap < memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0 and not update:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    if memory > 0 and swap == 0 and not update:
        host["MemorySwap"] = 2 * memory
    if host["MemorySwappiness"] not in (None, -1):  # cgroup v2 has no such thing
        warnings.append(
            "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. "
            "Memory swappiness discarded."
        )
    host["MemorySwappiness"] = None
    if host["MemoryReservation"] > 0 and "memory" not in machine.controllers:
        warnings.append(
            "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded."
        )
        host["MemoryReservation"] = 0
    if 0 < host["MemoryReservation"] < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if 0 < memory < host["MemoryReservation"]:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    if host["OomKillDisable"]:  # nor this
        warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
    host["OomKillDisable"] = None


def _processes(host: Json, machine: Kernel | Running, warnings: list[str]) -> None:
    if host["PidsLimit"] is not None and "pids" not in machine.controllers:
        if host["PidsLimit"] > 0:
            warnings.append(
                "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
            )
        host["PidsLimit"] = None
    for ulimit in host["Ulimits"]:
        if not isinstance(ulimit.get("Name"), str) or not all(
            isinstance(ulimit.setdefault(name, 0), int) for name in ("Hard", "Soft")
        ):
            raise InvalidParameter("invalid JSON: HostConfig.Ulimits must have a Name, a Soft and a Hard limit")


def _cpu(host: Json, machine: Kernel | Running, warnings: list[str]) -> None:
    nano, period, quota = host["NanoCpus"], host["CpuPeriod"], host["CpuQuota"]
    if nano > 0 and period > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if nano > 0 and quota > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if nano > 0 and "cpu" not in machine.controllers:
        raise InvalidParameter(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    if nano and not 0 <= nano <= machine.cpu_count * _NS:
        there = machine.cpu_count
        raise InvalidParameter(f"Range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available")
    if host["CpuShares"] > 0 and "cpu" not in machine.controllers:
        warnings.append("Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.")
        host["CpuShares"] = 0
    if (period or quota) and "cpu" not in machine.controllers:
        warnings.append("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
        host["CpuPeriod"] = host["CpuQuota"] = period = quota = 0
    if period and not 1000 <= period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host["CpuPercent"] > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        host["CpuPercent"] = 0


def _cpusets(host: Json, machine: Kernel | Running, warnings: list[str]) -> None:
    if (host["CpusetCpus"] or host["CpusetMems"]) and "cpuset" not in machine.controllers:
        warnings.append("Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.")
        host["CpusetCpus"] = host["CpusetMems"] = ""
    for field, name, things in (("CpusetCpus", "cpus", "CPUs"), ("CpusetMems", "mems", "memory nodes")):
        if not host[field]:
            continue
        there = machine.cpus if field == "CpusetCpus" else machine.mems
        available = numbers(there, None)
        try:
            wanted = numbers(host[field], max({_MAX_CPU, *available}))
        except ValueError as error:
            raise InvalidParameter(f"Invalid value {host[field]} for cpuset {name}: {error}") from None
        if not wanted <= available:
            raise InvalidParameter(
                f"Requested {things} are not available - requested {host[field]}, available: {there}"
            )


def numbers(text: str, maximum: int | None) -> set[int]:
    """The numbers of a list such as ``0-3,7`` (cpuset(7)), none above ``maximum``. Raises ValueError with dockerd's words."""
    result: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not (first.isascii() and first.isdigit() and (not dash or (last.isascii() and last.isdigit()))):
            raise ValueError(f"invalid format: {text}")
        start, end = int(first), int(last or first)
        if end < start:
            raise ValueError(f"invalid format: {text}")
        if maximum is not None and end > maximum:
            raise ValueError(f"value of out range, maximum is {maximum}")
        result.update(range(start, end + 1))
    return result


def _io(host: Json, machine: Kernel | Running, warnings: list[str]) -> None:
    weight = host["BlkioWeight"]
    if weight > 0 and not machine.io_weight:
        warnings.append("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
        host["BlkioWeight"] = weight = 0
    if weight and not 10 <= weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if host["IOMaximumBandwidth"] or host["IOMaximumIOps"]:
        raise InvalidParameter("Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps")
    if host["BlkioWeightDevice"] and not machine.io_weight:
        warnings.append(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
        )
        host["BlkioWeightDevice"] = []
    for field, what, discarded in (
        ("BlkioDeviceReadBps", "BPS Block I/O read", "Block I/O BPS read"),
        ("BlkioDeviceWriteBps", "BPS Block I/O write", "Block I/O BPS write"),
        ("BlkioDeviceReadIOps", "IOPS Block read", "Block I/O IOPS read"),
        ("BlkioDeviceWriteIOps", "IOPS Block write", "Block I/O IOPS write"),
    ):
        if host[field] and "io" not in machine.controllers:
            warnings.append(
                f"Your kernel does not support {what} limit or the cgroup is not mounted. {discarded} limit discarded."
            )
            host[field] = []
