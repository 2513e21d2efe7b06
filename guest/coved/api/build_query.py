"""What ``POST /build`` is asked for by its query, refused in dockerd's words (daemon/server/router/build) when it cannot be."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any

from coved.api.query import Query
from coved.build.request import Limits, Output, Request
from coved.errors import InvalidParameter
from coved.images import platforms, reference
from coved.versions import ApiVersion

_RESOURCES = {
    "memory": "Memory", "memswap": "MemorySwap", "cpushares": "CpuShares", "cpuperiod": "CpuPeriod",
    "cpuquota": "CpuQuota",
}  # fmt: skip
_SETS = {"cpusetcpus": "CpusetCpus", "cpusetmems": "CpusetMems"}
_GATEWAY = "host-gateway"
_WORDS = {"ulimits": "ulimit settings", "buildargs": "build args", "labels": "labels", "cachefrom": "cache-from"}
"""What dockerd calls the arguments that are JSON."""


def read(query: Query, version: ApiVersion) -> Request:
    """Raises InvalidParameter."""
    if "securityopt" in query:
        raise InvalidParameter("security options are not supported on linux")
    if query.str("isolation").lower() not in ("", "default"):
        raise InvalidParameter(f'unsupported isolation: "{query.str("isolation")}"')
    platform = query.str("platform") if version >= (1, 32) else ""
    if platform:
        platforms.parse(platform)
    names = query.list("t")
    for name in names:
        reference.parse(name)
    host_config: dict[str, Any] = {key: query.int(name) for name, key in _RESOURCES.items() if query.str(name)}
    host_config |= {key: query.str(name) for name, key in _SETS.items() if query.str(name)}
    network = query.str("networkmode") or "default"
    if network in ("container", "container:"):
        raise InvalidParameter("Invalid network mode: invalid container format container:<name|id>")
    shm_size = query.int("shmsize")
    if shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    return Request(
        dockerfile=query.str("dockerfile") or "Dockerfile",
        dockerfile_in="context",
        context=query.str("remote"),
        target=query.str("target"),
        platforms=[platform] if platform else (),
        build_args=_build_args(query),
        labels={name: value or "" for name, value in _strings(query, "labels", "map[string]string").items()},
        no_cache=query.bool("nocache"),
        pull=query.bool("pull"),
        squash=query.bool("squash"),
        network=network,
        add_hosts=[_host(one) for one in query.list("extrahosts")],
        limits=Limits(
            shm_size=shm_size,
            ulimits=_ulimits(query),
            cgroup_parent=query.str("cgroupparent"),
            host_config=host_config,
        ),
        cache_from=[{"type": "local-image", "ref": one} for one in _cache_from(query)],
        outputs=[Output(names=names)],
        in_order=True,
    )


def _ulimits(query: Query) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for one in _json(query, "ulimits", list, "[]*container.Ulimit") or ():
        if not isinstance(one, dict):
            raise _misfit("ulimits", one, "value of type container.Ulimit")
        ulimit: dict[str, Any] = {"Name": "", "Soft": 0, "Hard": 0}
        folded = {name.lower(): value for name, value in one.items()}
        for name in ulimit:
            value = folded.get(name.lower())
            text = name == "Name"
            if value is None:
                continue
            if not (isinstance(value, str) if text else _is_int64(value)):
                kind = "string" if text else "int64"
                raise _misfit("ulimits", value, f"struct field Ulimit.{name} of type {kind}")
            ulimit[name] = value
        found.append(ulimit)
    return found


def _is_int64(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def _build_args(query: Query) -> dict[str, str | None]:
    return _strings(query, "buildargs", "map[string]*string")


def _strings(query: Query, name: str, go_type: str) -> dict[str, str | None]:
    found: dict[str, Any] = _json(query, name, dict, go_type) or {}
    for value in found.values():
        if not isinstance(value, str | None):
            raise _misfit(name, value, "value of type string")
    return found


def _cache_from(query: Query) -> list[str]:
    found: list[Any] = _json(query, "cachefrom", list, "[]string") or []
    for value in found:
        if not isinstance(value, str):
            raise _misfit("cachefrom", value, "value of type string")
    return found


def _json(query: Query, name: str, kind: type, go_type: str) -> Any:
    text = query.str(name)
    if not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"error reading {_WORDS[name]}: {error}") from None
    if value is not None and not isinstance(value, kind):
        raise _misfit(name, value, f"value of type {go_type}")
    return value


def _misfit(name: str, value: object, place: str) -> InvalidParameter:
    return InvalidParameter(f"error reading {_WORDS[name]}: json: cannot unmarshal {_kind(value)} into Go {place}")


def _kind(value: object) -> str:
    """What Go's decoder calls it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "null"


def _host(text: str) -> tuple[str, str]:
    name, colon, address = text.partition(":")
    if not colon or not name:
        raise InvalidParameter(f'bad format for add-host: "{text}"')
    if address != _GATEWAY:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None
    return name, address
