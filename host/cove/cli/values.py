"""The texts that `run` and `create` accept for single values, as docker reads them. Every parser raises
`ValueError`.
"""

from __future__ import annotations

import re
from typing import Any

_SIZE = re.compile(r"(\d+(?:\.\d*)?)\s?([kKmMgGtTpP]?)([iI]?[bB])?")
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_ULIMITS = frozenset(
    [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]
)


def size(text: str) -> int:
    """`1.5g` in bytes; units are binary, as docker's RAMInBytes."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid size: '{text}'")
    power = " kmgtp".index(match[2].lower() or " ")
    return int(float(match[1]) * 1024**power)


def swap_size(text: str) -> int:
    """A size, or -1 for no limit."""
    return -1 if text == "-1" else size(text)


def nano_cpus(text: str) -> int:
    """`1.5` CPUs in billionths."""
    from fractions import Fraction

    try:
        value = Fraction(text) * 10**9
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if value.denominator != 1:
        raise ValueError("value is too precise")
    return int(value)


def duration(text: str) -> int:
    """Go's durations, `1m30s`, in nanoseconds."""
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if body == "0":
        return 0
    parts = _DURATION_PART.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        if re.fullmatch(r"[\d.]+", body):
            raise ValueError(f'time: missing unit in duration "{text}"')
        raise ValueError(f'time: invalid duration "{text}"')
    from fractions import Fraction

    return sign * sum(int(Fraction(number.rstrip(".")) * _NANOSECONDS[unit]) for number, unit in parts)


def environment(text: str) -> str:
    """`NAME=value`, or `NAME` for the client's own value (resolved later)."""
    if not text or text.startswith("="):
        raise ValueError(f"invalid environment variable: {text}")
    return text


def label(text: str) -> str:
    if text.partition("=")[0] == "":
        raise ValueError(f"invalid label '{text}': empty name")
    return text


def stream(text: str) -> str:
    name = text.lower()
    if name not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return name


def address(text: str) -> str:
    import ipaddress

    try:
        ipaddress.ip_address(text.strip())
    except ValueError:
        raise ValueError(f"IP address is not correctly formatted: {text}") from None
    return text.strip()


def dns_search(text: str) -> str:
    if text.strip() == ".":
        return "."
    if not re.fullmatch(
        r"(?:[a-zA-Z0-9_](?:[a-zA-Z0-9_-]*[a-zA-Z0-9_])?\.)*[a-zA-Z0-9_](?:[a-zA-Z0-9_-]*[a-zA-Z0-9_])?", text
    ):
        raise ValueError(f"{text} is not a valid domain")
    return text


def extra_host(text: str) -> str:
    """`name:ip` or `name=ip`, as the API's `name:ip`."""
    name, separator, ip = text.partition("=") if "=" in text else text.partition(":")
    if not separator or not name or not ip:
        raise ValueError(f'bad format for add-host: "{text}"')
    if ip.startswith("[") and ip.endswith("]"):
        ip = ip[1:-1]
    if ip != "host-gateway":
        import ipaddress

        try:
            ipaddress.ip_address(ip)
        except ValueError:
            raise ValueError(f'invalid IP address in add-host: "{ip}"') from None
    return f"{name}:{ip}"


def ulimit(text: str) -> dict[str, Any]:
    """`nofile=1024:2048` as the API's Ulimit."""
    name, separator, limits = text.partition("=")
    if not separator:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    soft_text, colon, hard_text = limits.partition(":")
    try:
        soft = int(soft_text)
        hard = int(hard_text) if colon else soft
    except ValueError as error:
        raise ValueError(f'strconv.ParseInt: parsing "{limits}": invalid syntax') from error
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


def link(text: str) -> str:
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return text


def sysctl(text: str) -> str:
    allowed = ("net.", "fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm")
    if "=" not in text or not text.startswith(allowed):
        raise ValueError(f"sysctl '{text}' is not allowed")
    return text


def device_cgroup_rule(text: str) -> str:
    if not re.fullmatch(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}", text):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def weight_device(text: str) -> dict[str, Any]:
    path, separator, weight = text.partition(":")
    if not separator or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    if not weight.isdigit() or (int(weight) != 0 and not 10 <= int(weight) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(weight)}


def rate_device(text: str) -> dict[str, Any]:
    """`/dev/sda:1mb` as the API's ThrottleDevice, bytes per second."""
    path, value = _device_and_value(text)
    try:
        return {"Path": path, "Rate": size(value)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. "
            "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ) from None


def iops_device(text: str) -> dict[str, Any]:
    """`/dev/sda:100` as the API's ThrottleDevice, operations per second."""
    path, value = _device_and_value(text)
    if not value.isdigit():
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. "
            "Number must be a positive integer"
        )
    return {"Path": path, "Rate": int(value)}


def _device_and_value(text: str) -> tuple[str, str]:
    path, separator, value = text.partition(":")
    if not separator or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def gpus(text: str) -> dict[str, Any]:
    """`all`, a number, or `device=0,capabilities=...` fields, as the API's DeviceRequest."""
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": None, "Options": {}}
    capabilities = ["gpu"]
    for field in csv_fields(text):
        key, separator, value = field.partition("=")
        if not separator:
            key, value = "count", field
        if key == "count":
            request["Count"] = -1 if value == "all" else _count(value)
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "driver":
            request["Driver"] = value
        elif key == "capabilities":
            capabilities = [*value.split(","), "gpu"]
        elif key == "options":
            request["Options"] = dict(item.partition("=")[::2] for item in csv_fields(value))
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    if request["Count"] == 0 and request["DeviceIDs"] is None:
        request["Count"] = 1
    return request | {"Capabilities": [capabilities]}


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'invalid count ({text}): value must be either "all" or an integer: invalid syntax') from None


def csv_fields(text: str) -> list[str]:
    """The fields of one CSV record, quotes respected (RFC 4180): `--mount` and `--network` are written so."""
    if '"' not in text:
        return text.split(",")
    import csv

    return next(csv.reader([text]))


def network(text: str) -> dict[str, Any]:
    """`name`, or `name=x,alias=y,ip=...`, as {"name", "aliases", "ip", "ip6", "mac", "link_local", "driver_opts",
    "priority"}.
    """
    result: dict[str, Any] = {"name": "", "aliases": [], "link_local": [], "driver_opts": {}, "priority": 0}
    if not re.search(r"\w+=\w+", text):
        return result | {"name": text}
    simple = {"name": "name", "ip": "ip", "ip6": "ip6", "mac-address": "mac"}
    for field in csv_fields(text):
        key, separator, value = field.partition("=")
        key = key.strip().lower()
        if not separator:
            raise ValueError(f"invalid field {key}")
        if key in simple:
            result[simple[key]] = value
        elif key == "alias":
            result["aliases"].append(value)
        elif key == "link-local-ip":
            result["link_local"].append(value)
        elif key == "driver-opt":
            name, equals, setting = value.partition("=")
            if not equals:
                raise ValueError("invalid key value pair format in driver options")
            result["driver_opts"][name.lower()] = setting.lower()
        elif key == "gw-priority":
            result["priority"] = int(value)
        else:
            raise ValueError(f"invalid field key {key}")
    if not result["name"]:
        raise ValueError("network name/id is not specified")
    return result
