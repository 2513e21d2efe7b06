"""The fields of a container's configuration: their types, their defaults and when an inspect leaves them out.

The tables follow the definitions ``ContainerConfig`` and ``HostConfig`` of the Docker Engine API. Values keep Docker's own
names and JSON types throughout the engine, so that what was asked for, what is stored and what an inspect shows is one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from coved.errors import InvalidParameter

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: ``check`` converts or raises ``TypeError``; ``omit`` leaves the default out of an inspect, as Go's omitempty."""

    name: str
    check: Callable[[Any], Any]
    default: Callable[[], Any]
    omit: bool = False


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a string")
    if "\0" in value:
        raise TypeError("a string without NUL bytes")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("a boolean")
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("an integer")
    if not -(1 << 63) <= value < 1 << 63:
        raise TypeError("a 64-bit integer")
    return value


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("an array of strings")
    return [_string(item) for item in value]


def _command(value: Any) -> list[str]:
    """A command is an array; a lone string stands for an array of one (Docker's StrSlice)."""
    return [_string(value)] if isinstance(value, str) else _strings(value)


def _object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise TypeError("an object")
    return value


def _objects(value: Any) -> list[Json]:
    if not isinstance(value, list):
        raise TypeError("an array of objects")
    return [_object(item) for item in value]


def _string_map(value: Any) -> dict[str, str]:
    return {_string(key): _string(item) for key, item in _object(value).items()}


def _set(value: Any) -> dict[str, Json]:
    return {_string(key): {} for key in _object(value)}


def _size(value: Any) -> list[int]:
    if not isinstance(value, list) or len(value) != 2:
        raise TypeError("an array of two integers")
    return [_integer(item) for item in value]


def _none() -> None:
    return None


CONFIG = (
    Field("Hostname", _string, str),
    Field("Domainname", _string, str),
    Field("User", _string, str),
    Field("AttachStdin", _boolean, bool),
    Field("AttachStdout", _boolean, bool),
    Field("AttachStderr", _boolean, bool),
    Field("ExposedPorts", _set, _none, omit=True),
    Field("Tty", _boolean, bool),
    Field("OpenStdin", _boolean, bool),
    Field("StdinOnce", _boolean, bool),
    Field("Env", _strings, list),
    Field("Cmd", _command, _none),
    Field("Healthcheck", _object, _none, omit=True),
    Field("ArgsEscaped", _boolean, bool, omit=True),
    Field("Image", _string, str),
    Field("Volumes", _set, _none),
    Field("WorkingDir", _string, str),
    Field("Entrypoint", _command, _none),
    Field("NetworkDisabled", _boolean, bool, omit=True),
    Field("MacAddress", _string, str, omit=True),
    Field("OnBuild", _strings, _none),
    Field("Labels", _string_map, dict),
    Field("StopSignal", _string, str, omit=True),
    Field("StopTimeout", _integer, _none, omit=True),
    Field("Shell", _command, _none, omit=True),
)

HOST_CONFIG = (
    Field("Binds", _strings, _none),
    Field("ContainerIDFile", _string, str),
    Field("LogConfig", _object, dict),
    Field("NetworkMode", _string, str),
    Field("PortBindings", _object, dict),
    Field("RestartPolicy", _object, dict),
    Field("AutoRemove", _boolean, bool),
    Field("VolumeDriver", _string, str),
    Field("VolumesFrom", _strings, _none),
    Field("ConsoleSize", _size, lambda: [0, 0]),
    Field("Annotations", _string_map, dict, omit=True),
    Field("CapAdd", _strings, _none),
    Field("CapDrop", _strings, _none),
    Field("CgroupnsMode", _string, str),
    Field("Dns", _strings, list),
    Field("DnsOptions", _strings, list),
    Field("DnsSearch", _strings, list),
    Field("ExtraHosts", _strings, _none),
    Field("GroupAdd", _strings, _none),
    Field("IpcMode", _string, str),
    Field("Cgroup", _string, str),
    Field("Links", _strings, _none),
    Field("OomScoreAdj", _integer, int),
    Field("PidMode", _string, str),
    Field("Privileged", _boolean, bool),
    Field("PublishAllPorts", _boolean, bool),
    Field("ReadonlyRootfs", _boolean, bool),
    Field("SecurityOpt", _strings, _none),
    Field("StorageOpt", _string_map, dict, omit=True),
    Field("Tmpfs", _string_map, dict, omit=True),
    Field("UTSMode", _string, str),
    Field("UsernsMode", _string, str),
    Field("ShmSize", _integer, int),
    Field("Sysctls", _string_map, dict, omit=True),
    Field("Runtime", _string, str),
    Field("Isolation", _string, str),
    Field("CpuShares", _integer, int),
    Field("Memory", _integer, int),
    Field("NanoCpus", _integer, int),
    Field("CgroupParent", _string, str),
    Field("BlkioWeight", _integer, int),
    Field("BlkioWeightDevice", _objects, list),
    Field("BlkioDeviceReadBps", _objects, list),
    Field("BlkioDeviceWriteBps", _objects, list),
    Field("BlkioDeviceReadIOps", _objects, list),
    Field("BlkioDeviceWriteIOps", _objects, list),
    Field("CpuPeriod", _integer, int),
    Field("CpuQuota", _integer, int),
    Field("CpuRealtimePeriod", _integer, int),
    Field("CpuRealtimeRuntime", _integer, int),
    Field("CpusetCpus", _string, str),
    Field("CpusetMems", _string, str),
    Field("Devices", _objects, list),
    Field("DeviceCgroupRules", _strings, _none),
    Field("DeviceRequests", _objects, _none),
    Field("MemoryReservation", _integer, int),
    Field("MemorySwap", _integer, int),
    Field("MemorySwappiness", _integer, _none),
    Field("OomKillDisable", _boolean, _none),
    Field("PidsLimit", _integer, _none),
    Field("Ulimits", _objects, list),
    Field("CpuCount", _integer, int),
    Field("CpuPercent", _integer, int),
    Field("IOMaximumIOps", _integer, int),
    Field("IOMaximumBandwidth", _integer, int),
    Field("Mounts", _objects, list, omit=True),
    Field("MaskedPaths", _strings, _none),
    Field("ReadonlyPaths", _strings, _none),
    Field("Init", _boolean, _none, omit=True),
)

# What an exec is made of (Engine API, "ExecConfig"), and where it starts from.
EXEC = (
    Field("User", _string, str),
    Field("Privileged", _boolean, bool),
    Field("Tty", _boolean, bool),
    Field("ConsoleSize", _size, lambda: [0, 0]),
    Field("AttachStdin", _boolean, bool),
    Field("AttachStdout", _boolean, bool),
    Field("AttachStderr", _boolean, bool),
    Field("DetachKeys", _string, str),
    Field("Env", _strings, list),
    Field("WorkingDir", _string, str),
    Field("Cmd", _strings, list),
)
EXEC_START = (
    Field("Detach", _boolean, bool),
    Field("Tty", _boolean, bool),
    Field("ConsoleSize", _size, _none),
)


def read(fields: Iterable[Field], raw: Mapping[str, Any], where: str) -> Json:
    """Take the known fields of ``raw``; JSON null and absence give the default, unknown fields are ignored.

    Names match without regard to case, because Docker's (Go's) decoder does, and clients rely on it.
    Raises InvalidParameter when a value has the wrong type.
    """
    folded = {key.lower(): value for key, value in raw.items()}
    result: Json = {}
    for field in fields:
        value = folded.get(field.name.lower())
        if value is None:
            result[field.name] = field.default()
            continue
        try:
            result[field.name] = field.check(value)
        except TypeError as error:
            raise InvalidParameter(f"invalid JSON: {where}.{field.name} must be {error}") from None
    return result


def shown(fields: Iterable[Field], values: Json) -> Json:
    """The fields as an inspect shows them: in Docker's order, those marked ``omit`` only when they hold something."""
    return {
        field.name: values[field.name]
        for field in fields
        if not field.omit or values[field.name] not in ("", None, False, {}, [])
    }
