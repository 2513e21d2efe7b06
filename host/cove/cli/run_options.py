"""From the flags of `run` and `create` to the API's ContainerCreate body. Pure but for the files that flags name.

Field by field what docker's CLI sends, which tests compare; see "ContainerCreate" in the API's description.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cove.cli import ports
from cove.cli.errors import HelpfulError, os_error_text
from cove.cli.flags import Values
from cove.cli.mounts import parse_volume

_HEALTH = (
    "health-cmd",
    "health-interval",
    "health-retries",
    "health-start-interval",
    "health-start-period",
    "health-timeout",
)


def create_body(values: Values) -> dict[str, Any]:
    """The request body for `values`, whose first argument is the image. Raises `HelpfulError` in docker's words."""
    try:
        return _create_body(values)
    except OSError as error:
        raise HelpfulError(os_error_text(error)) from error
    except ValueError as error:
        raise HelpfulError(str(error)) from error


def _create_body(values: Values) -> dict[str, Any]:
    image, *command = values.args
    streams = set(values["attach"])
    if not streams and not values_detach(values):
        streams = {"stdout", "stderr"} | ({"stdin"} if values["interactive"] else set())
    exposed, bindings = ports.parse_publish(values["publish"])
    exposed |= {key: {} for key in ports.parse_expose(values["expose"]) if key not in exposed}
    binds, anonymous = _volumes(values["volume"])
    entrypoint: list[str] | None = None
    if values.changed("entrypoint"):
        entrypoint = [values["entrypoint"]]
    config: dict[str, Any] = {
        "Hostname": values["hostname"],
        "Domainname": values["domainname"],
        "User": values["user"],
        "AttachStdin": "stdin" in streams,
        "AttachStdout": "stdout" in streams,
        "AttachStderr": "stderr" in streams,
        "Tty": values["tty"],
        "OpenStdin": values["interactive"],
        "StdinOnce": values["interactive"] and "stdin" in streams,
        "Env": environment(values["env"], values["env-file"]) or None,
        "Cmd": command or None,
        "Image": image,
        "Volumes": anonymous,
        "WorkingDir": values["workdir"],
        "Entrypoint": entrypoint,
        "OnBuild": None,
        "Labels": pairs(file_lines(values["label-file"]) + values["label"]),
    }
    if exposed:
        config["ExposedPorts"] = exposed
    if health := _health(values):
        config["Healthcheck"] = health
    if values["stop-signal"]:
        config["StopSignal"] = values["stop-signal"]
    if values["stop-timeout"] is not None:
        config["StopTimeout"] = values["stop-timeout"]
    mode, endpoints = _networks(values)
    config["HostConfig"] = _host_config(values, binds, bindings, mode)
    config["NetworkingConfig"] = {"EndpointsConfig": endpoints}
    return config


def values_detach(values: Values) -> bool:
    """Whether `run -d` was said; `create` has no such flag."""
    try:
        return bool(values["detach"])
    except KeyError:
        return False


def _host_config(values: Values, binds: list[str], bindings: dict[str, Any], mode: str) -> dict[str, Any]:
    for flag, label in (("pid", "PID"), ("uts", "UTS"), ("userns", "USER"), ("cgroupns", "CGROUP")):
        _check_mode(flag, label, values[flag])
    swappiness = values["memory-swappiness"]
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise ValueError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    if values["log-driver"] == "none" and values["log-opt"]:
        raise ValueError("invalid logging opts for driver none")
    host: dict[str, Any] = {
        "Binds": binds or None,
        "ContainerIDFile": values["cidfile"],
        "LogConfig": {"Type": values["log-driver"], "Config": pairs(values["log-opt"])},
        "NetworkMode": mode,
        "PortBindings": bindings,
        "RestartPolicy": restart_policy(values["restart"]),
        "AutoRemove": values["rm"],
        "VolumeDriver": values["volume-driver"],
        "VolumesFrom": values["volumes-from"] or None,
        "ConsoleSize": [0, 0],
        "CapAdd": capabilities(values["cap-add"]),
        "CapDrop": capabilities(values["cap-drop"]),
        "CgroupnsMode": values["cgroupns"],
        "Dns": values["dns"],
        "DnsOptions": values["dns-option"] + values["dns-opt"],
        "DnsSearch": values["dns-search"],
        "ExtraHosts": values["add-host"] or None,
        "GroupAdd": values["group-add"] or None,
        "IpcMode": values["ipc"],
        "Cgroup": "",
        "Links": values["link"] or None,
        "OomScoreAdj": values["oom-score-adj"],
        "PidMode": values["pid"],
        "Privileged": values["privileged"],
        "PublishAllPorts": values["publish-all"],
        "ReadonlyRootfs": values["read-only"],
        "SecurityOpt": _security_options(values["security-opt"]) if values["security-opt"] else None,
        "UTSMode": values["uts"],
        "UsernsMode": values["userns"],
        "ShmSize": values["shm-size"],
        "Isolation": values["isolation"],
        "CpuShares": values["cpu-shares"],
        "Memory": values["memory"],
        "NanoCpus": values["cpus"],
        "CgroupParent": values["cgroup-parent"],
        "BlkioWeight": values["blkio-weight"],
        "BlkioWeightDevice": values["blkio-weight-device"],
        "BlkioDeviceReadBps": values["device-read-bps"],
        "BlkioDeviceWriteBps": values["device-write-bps"],
        "BlkioDeviceReadIOps": values["device-read-iops"],
        "BlkioDeviceWriteIOps": values["device-write-iops"],
        "CpuPeriod": values["cpu-period"],
        "CpuQuota": values["cpu-quota"],
        "CpuRealtimePeriod": values["cpu-rt-period"],
        "CpuRealtimeRuntime": values["cpu-rt-runtime"],
        "CpusetCpus": values["cpuset-cpus"],
        "CpusetMems": values["cpuset-mems"],
        "Devices": [_device(item) for item in values["device"]],
        "DeviceCgroupRules": values["device-cgroup-rule"] or None,
        "DeviceRequests": values["gpus"] or None,
        "MemoryReservation": values["memory-reservation"],
        "MemorySwap": values["memory-swap"],
        "MemorySwappiness": swappiness,
        "OomKillDisable": values["oom-kill-disable"],
        "PidsLimit": values["pids-limit"],
        "Ulimits": sorted(
            {item["Name"]: item for item in values["ulimit"]}.values(), key=lambda item: str(item["Name"])
        ),
        "CpuCount": values["cpu-count"],
        "CpuPercent": values["cpu-percent"],
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "MaskedPaths": None,
        "ReadonlyPaths": None,
    }
    if "systempaths=unconfined" in values["security-opt"]:
        host["MaskedPaths"] = host["ReadonlyPaths"] = []
    if values["rm"] and host["RestartPolicy"]["Name"] not in ("", "no"):
        raise ValueError("conflicting options: cannot specify both --restart and --rm")
    optional = {
        "Annotations": pairs(values["annotation"]),
        "Mounts": values["mount"],
        "Runtime": values["runtime"],
        "StorageOpt": _storage_options(values["storage-opt"]),
        "Sysctls": pairs(values["sysctl"]),
        "Tmpfs": {path: options for path, _, options in (item.partition(":") for item in values["tmpfs"])},
    }
    host |= {key: value for key, value in optional.items() if value}
    if values.changed("init"):
        host["Init"] = values["init"]
    return host


def _check_mode(flag: str, label: str, mode: str) -> None:
    allowed = {"": True, "host": True, "private": flag == "cgroupns"}.get(mode, False)
    if not allowed and not (flag == "pid" and mode.startswith("container:") and mode != "container:"):
        raise ValueError(f"--{flag}: invalid {label} mode")


def _volumes(specs: Iterable[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    binds: list[str] = []
    anonymous: dict[str, dict[str, Any]] = {}
    for spec in specs:
        bind, volume = parse_volume(spec)
        if bind:
            binds.append(bind)
        else:
            anonymous[volume] = {}
    return binds, anonymous


def _health(values: Values) -> dict[str, Any] | None:
    if values["no-healthcheck"]:
        if any(values.changed(name) for name in _HEALTH):
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not any(values[name] for name in _HEALTH):
        return None
    health: dict[str, Any] = {}
    if values["health-cmd"]:
        health["Test"] = ["CMD-SHELL", values["health-cmd"]]
    for name in _HEALTH[1:]:
        if values[name] < 0:
            raise ValueError(f"--{name} cannot be negative")
        if values[name]:
            health["".join(part.title() for part in name.split("-")[1:])] = values[name]
    return health


def _networks(values: Values) -> tuple[str, dict[str, Any]]:
    networks = [dict(item) for item in values["network"] + values["net"]] or [
        {"name": "default", "aliases": [], "link_local": [], "driver_opts": {}, "priority": 0}
    ]
    # Flags that are not tied to a network are the first one's.
    first = networks[0]
    aliases = values["network-alias"] + values["net-alias"]
    mac = values["mac-address"]
    if mac and not re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", mac):
        raise ValueError(f"{mac} is not a valid mac address")
    for flag, key, given in (
        ("network-alias", "aliases", aliases),
        ("ip", "ip", values["ip"]),
        ("ip6", "ip6", values["ip6"]),
        ("mac-address", "mac", mac),
        ("link-local-ip", "link_local", values["link-local-ip"]),
    ):
        if given:
            if first.get(key):
                raise ValueError(f"conflicting options: cannot specify both --{flag} and per-network {key}")
            first[key] = given
    user_defined = first["name"] not in ("default", "bridge", "host", "none") and not first["name"].startswith(
        "container:"
    )
    if user_defined and values["link"]:
        first["links"] = values["link"]
    endpoints: dict[str, Any] = {}
    for network in networks:
        name = network["name"]
        if name in endpoints:
            raise ValueError(f'network "{name}" is specified multiple times')
        plain = name in ("default", "bridge", "host", "none") or name.startswith("container:")
        if plain and network["aliases"]:
            raise ValueError("network-scoped aliases are only supported for user-defined networks")
        if len(networks) > 1 and (name in ("host", "none") or name.startswith("container:")):
            raise ValueError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
        endpoints[name] = _endpoint(network)
    mode = first["name"]
    if len(networks) == 1 and (mode in ("host", "none") or mode.startswith("container:")):
        return mode, {} if not first.get("mac") else endpoints
    return mode, endpoints


def _endpoint(network: dict[str, Any]) -> dict[str, Any]:
    ipam: dict[str, Any] = {}
    for key, field in (("ip", "IPv4Address"), ("ip6", "IPv6Address"), ("link_local", "LinkLocalIPs")):
        if network.get(key):
            ipam[field] = network[key]
    return {
        "IPAMConfig": ipam or None,
        "Links": network.get("links"),
        "Aliases": network["aliases"] or None,
        "MacAddress": network.get("mac", ""),
        "DriverOpts": network["driver_opts"] or None,
        "GwPriority": network["priority"],
    }


def _device(text: str) -> dict[str, str]:
    source, *rest = text.split(":")
    target, permissions = source, "rwm"
    if len(rest) == 1 and rest[0] and set(rest[0]) <= set("rwm"):
        permissions = rest[0]
    elif len(rest) <= 2:
        target = rest[0] if rest and rest[0] else source
        permissions = rest[1] if len(rest) == 2 else permissions
    if len(rest) > 2 or not source or not set(permissions) <= set("rwm") or not target.startswith("/"):
        raise ValueError(f"bad format for path: {text}")
    return {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": permissions}


def capabilities(names: Iterable[str]) -> list[str] | None:
    """Names in the kernel's spelling, sorted, each once."""
    upper = {name.strip().upper() for name in names}
    return sorted(name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in upper) or None


def _security_options(options: Iterable[str]) -> list[str]:
    result = []
    for option in options:
        key, equals, value = option.partition("=")
        if not equals and ":" in option:
            key, equals, value = option.partition(":")
        if not equals and option != "no-new-privileges":
            raise ValueError(f'Invalid --security-opt: "{option}"')
        if key == "systempaths" and value == "unconfined":
            continue
        if key == "seccomp" and value not in ("unconfined", "builtin"):
            # The engine may be on another machine than the profile: its contents travel, not its path.
            try:
                profile = json.loads(Path(value).read_bytes())
            except OSError as error:
                raise ValueError(f"opening seccomp profile ({value}) failed: {os_error_text(error)}") from error
            except ValueError as error:
                raise ValueError(f"compacting json for seccomp profile ({value}) failed: {error}") from error
            option = f"seccomp={json.dumps(profile, separators=(',', ':'))}"
        result.append(option)
    return result


def _storage_options(options: Iterable[str]) -> dict[str, str]:
    if any("=" not in option for option in options):
        raise ValueError("invalid storage option")
    return pairs(options)


def restart_policy(text: str) -> dict[str, Any]:
    """`on-failure:3` as the API's RestartPolicy."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise ValueError("invalid restart policy format: no policy provided before colon")
    if colon and not re.fullmatch(r"-?\d+", count):
        raise ValueError("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(count) if colon else 0}


def pairs(items: Iterable[str]) -> dict[str, str]:
    """`key=value` texts as a mapping; one without "=" has an empty value."""
    return {key: value for key, _, value in (item.partition("=") for item in items)}


def environment(given: Iterable[str], files: Iterable[str]) -> list[str]:
    """Variables of the files, then those given; a bare name takes the client's value, or unsets the image's."""
    lines = file_lines(files)
    resolved = [item for line in lines if (item := _resolve(line, keep=False))]
    return resolved + [str(_resolve(item, keep=True)) for item in given]


def _resolve(item: str, *, keep: bool) -> str | None:
    if "=" in item:
        return item
    if item in os.environ:
        return f"{item}={os.environ[item]}"
    return item if keep else None


def file_lines(paths: Iterable[str]) -> list[str]:
    """The lines of `--env-file` and `--label-file`: comments and empty lines dropped. Raises `OSError`,
    `ValueError`.
    """
    result = []
    for path in paths:
        for line in Path(path).read_text(encoding="utf-8-sig").splitlines():
            stripped = line.lstrip()
            if not stripped or stripped.startswith("#"):
                continue
            name, _, _ = stripped.partition("=")
            if not name:
                raise ValueError(f"invalid env file ({path}): no variable name on line '{line}'")
            if re.search(r"\s", name):
                raise ValueError(f"invalid env file ({path}): variable '{name}' contains whitespaces")
            result.append(stripped)
    return result
