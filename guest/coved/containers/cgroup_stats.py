"""What a container has used, as its cgroup (v2) counts it, in the fields of the Engine API's ContainerStatsResponse.

Fields whose controller is missing are left out, as dockerd leaves them out. kernel: admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
from typing import Any

Json = dict[str, Any]

_NO_LIMIT = 2**64 - 1
"""dockerd's number for a limit of processes that is "max"."""
_MEMORY_FIELDS = (
    "anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback", "anon_thp",
    "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable", "slab_reclaimable",
    "slab_unreclaimable", "pgfault", "pgmajfault", "workingset_refault", "workingset_activate",
    "workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal", "pgactivate", "pgdeactivate", "pglazyfree",
    "pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc",
)  # fmt: skip
"""What dockerd gives of memory.stat."""
_BLKIO_FIELDS = (
    "io_service_bytes_recursive", "io_serviced_recursive", "io_queue_recursive", "io_service_time_recursive",
    "io_wait_time_recursive", "io_merged_recursive", "io_time_recursive", "sectors_recursive",
)  # fmt: skip


def cpu(directory: str = "") -> Json:
    """``cpu_stats`` without the machine's own part, in nanoseconds; zeros without a cgroup."""
    used = _keyed(f"{directory}/cpu.stat") if directory else {}
    return {
        "cpu_usage": {
            "total_usage": used.get("usage_usec", 0) * 1000,
            "usage_in_kernelmode": used.get("system_usec", 0) * 1000,
            "usage_in_usermode": used.get("user_usec", 0) * 1000,
        },
        "throttling_data": {
            "periods": used.get("nr_periods", 0),
            "throttled_periods": used.get("nr_throttled", 0),
            "throttled_time": used.get("throttled_usec", 0) * 1000,
        },
    }


def memory(directory: str, machine: int) -> Json:
    """``memory_stats`` in bytes; ``machine`` is the machine's memory, the limit of those that have none."""
    usage = _number(f"{directory}/memory.current")
    if usage is None:
        return {}
    counted = _keyed(f"{directory}/memory.stat")
    limit = _number(f"{directory}/memory.max")
    result: Json = {
        "usage": usage,
        "stats": {name: counted.get(name, 0) for name in _MEMORY_FIELDS},
        "limit": min(limit, machine) if limit is not None else machine,
    }
    # dockerd gives the number of times that the limit ended in an OOM, and leaves 0 out.
    if failures := _keyed(f"{directory}/memory.events").get("oom", 0):
        result["failcnt"] = failures
    return result


def processes(directory: str) -> Json:
    """``pids_stats``; threads are counted, as the kernel does."""
    current = _number(f"{directory}/pids.current")
    if current is None:
        return {}
    limit = _number(f"{directory}/pids.max")
    return {"current": current, "limit": _NO_LIMIT if limit is None else limit}


def block_io(directory: str = "") -> Json:
    """``blkio_stats``: bytes read and written by device; on cgroup v2 everything else is null."""
    result: Json = dict.fromkeys(_BLKIO_FIELDS)
    entries: list[Json] = []
    for line in _lines(f"{directory}/io.stat") if directory else ():
        device, _, pairs = line.partition(" ")
        major, _, minor = device.partition(":")
        counted = dict(pair.split("=", 1) for pair in pairs.split() if "=" in pair)
        if not (major.isdecimal() and minor.isdecimal()):
            continue
        entries += [
            {"major": int(major), "minor": int(minor), "op": name, "value": int(counted.get(key, 0))}
            for name, key in (("read", "rbytes"), ("write", "wbytes"))
        ]
    result["io_service_bytes_recursive"] = entries or None
    return result


def _lines(path: str) -> list[str]:
    """The lines of a file; none when it is not there: the controller is missing, or the cgroup is going."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks).decode().splitlines()
    except OSError:
        return []
    finally:
        os.close(fd)


def _keyed(path: str) -> dict[str, int]:
    pairs = (line.partition(" ") for line in _lines(path))
    return {key: int(value) for key, _, value in pairs if value.isdecimal()}


def _number(path: str) -> int | None:
    """None for "max", and for a file that is not there."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdecimal() else None
