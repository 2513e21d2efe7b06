"""From HostConfig to the ``linux.resources`` of the OCI runtime spec (config-linux.md, "Control groups")."""

from __future__ import annotations

import os
from typing import Any

from coved.containers import devices
from coved.containers.config_schema import Json
from coved.errors import EngineError
from coved.runtime.spec import BlockIoResources, CpuResources, MemoryResources, PidsResources, Resources

_PERIOD_US = 100_000


def resources(host: Json) -> Resources:
    """Limits and device rules. Raises EngineError."""
    result: Resources = {}
    if (rules := devices.rules(host)) is not None:
        result["devices"] = rules
    if limits := memory(host):
        result["memory"] = limits
    if shares := cpu(host):
        result["cpu"] = shares
    if host["PidsLimit"] is not None:
        result["pids"] = pids(host)
    if block_io := _block_io(host):
        result["blockIO"] = block_io
    return result


def memory(host: Json) -> MemoryResources:
    """Limits that depend on each other."""
    wanted = {"limit": host["Memory"], "reservation": host["MemoryReservation"], "swap": host["MemorySwap"]}
    return {name: value for name, value in wanted.items() if value}  # type: ignore[return-value]


def cpu(host: Json) -> CpuResources:
    """Quota and period, which depend on each other, and with them all else about CPUs."""
    wanted: Any = {"shares": host["CpuShares"], "quota": host["CpuQuota"], "period": host["CpuPeriod"]}
    if host["NanoCpus"]:
        wanted.update(quota=host["NanoCpus"] * _PERIOD_US // 1_000_000_000, period=_PERIOD_US)
    wanted.update(cpus=host["CpusetCpus"], mems=host["CpusetMems"])
    return {name: value for name, value in wanted.items() if value}  # type: ignore[return-value]


def pids(host: Json) -> PidsResources:
    """Anything but a positive number means as many as there can be."""
    limit = host["PidsLimit"] or 0
    return {"limit": limit if limit > 0 else -1}


def _block_io(host: Json) -> BlockIoResources:
    result: Any = {}
    if host["BlkioWeight"]:
        result["weight"] = host["BlkioWeight"]
    for field, name, value in (
        ("BlkioWeightDevice", "weightDevice", "weight"),
        ("BlkioDeviceReadBps", "throttleReadBpsDevice", "rate"),
        ("BlkioDeviceWriteBps", "throttleWriteBpsDevice", "rate"),
        ("BlkioDeviceReadIOps", "throttleReadIOPSDevice", "rate"),
        ("BlkioDeviceWriteIOps", "throttleWriteIOPSDevice", "rate"),
    ):
        if host[field]:
            result[name] = [{**_numbers(one), value: _amount(one, value)} for one in host[field]]
    return result  # type: ignore[no-any-return]


def _numbers(entry: Json) -> dict[str, int]:
    path = str(entry.get("Path") or "")
    try:
        status = os.stat(path)  # noqa: PTH116 - on the path of a start
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise EngineError(f"stat {path}: {text[:1].lower() + text[1:]}") from None
    return {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}


def _amount(entry: Json, name: str) -> int:
    value = entry.get(name.capitalize())
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise EngineError(f"invalid {name} for device {entry.get('Path')}: {value}")
    return value
