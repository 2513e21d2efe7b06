"""Changes to a container's limits and restart policy (``POST /containers/{id}/update``): pure, see ``Containers.update``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coved.containers import resources, restarts
from coved.containers.config_schema import HOST_CONFIG, Json, read
from coved.errors import Conflict
from coved.runtime.spec import Resources

_NUMBERS = (
    *(
        "BlkioWeight",
        "CpuShares",
        "NanoCpus",
        "CpuPeriod",
        "CpuQuota",
        "CpusetCpus",
        "CpusetMems",
        "Memory",
        "MemorySwap",
    ),
    *("MemoryReservation", "CpuRealtimePeriod", "CpuRealtimeRuntime"),
)


def parse(body: Mapping[str, Any]) -> Json:
    """A request as the fields of HostConfig; what it does not name has its default. Raises InvalidParameter."""
    host = read(HOST_CONFIG, body, "UpdateConfig")
    if host["PidsLimit"] is not None and host["PidsLimit"] <= 0:
        host["PidsLimit"] = 0  # any of these means unlimited
    named = bool(host["RestartPolicy"].get("Name"))
    policy = restarts.check(host["RestartPolicy"])
    host["RestartPolicy"] = policy if named else None
    return host


def merge(host: Json, wanted: Json) -> Json:
    """The HostConfig after the update. Raises Conflict for what does not go with what is there."""
    for first, second in (("NanoCpus", "CpuPeriod"), ("NanoCpus", "CpuQuota")):
        if wanted[first] > 0 and host[second] > 0:
            raise Conflict(f"Conflicting options: Nano CPUs cannot be updated as {_NAMES[second]} has already been set")
        if wanted[second] > 0 and host[first] > 0:
            raise Conflict(f"Conflicting options: {_NAMES[second]} cannot be updated as NanoCPUs has already been set")
    if wanted["Memory"] and wanted["Memory"] > host["MemorySwap"] and not wanted["MemorySwap"]:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    result = {**host, **{field: wanted[field] for field in _NUMBERS if wanted[field]}}
    if wanted["PidsLimit"] is not None:
        result["PidsLimit"] = wanted["PidsLimit"]
    if wanted["RestartPolicy"] is not None:
        if host["AutoRemove"] and wanted["RestartPolicy"]["Name"] != "no":
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        result["RestartPolicy"] = wanted["RestartPolicy"]
    return result


_NAMES = {"CpuPeriod": "CPU Period", "CpuQuota": "CPU Quota"}


def changed(before: Json, after: Json) -> Resources:
    """What the runtime has to set. Limits that depend on each other (memory and swap, quota and period) go together."""
    result: Resources = {}
    if (memory := resources.memory(after)) != resources.memory(before):
        result["memory"] = memory
    if (cpu := resources.cpu(after)) != resources.cpu(before):
        result["cpu"] = cpu
    if before["PidsLimit"] != after["PidsLimit"]:
        result["pids"] = resources.pids(after)
    if before["BlkioWeight"] != after["BlkioWeight"]:
        result["blockIO"] = {"weight": after["BlkioWeight"]}
    return result
