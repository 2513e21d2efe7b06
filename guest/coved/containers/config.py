"""From the body of a create request to a container's configuration: Docker's defaults, and its words for what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from coved.containers import (
    capabilities,
    health,
    limits,
    modes,
    restarts,
    runtimes,
    security,
    signals,
)
from coved.containers.config_schema import CONFIG, HOST_CONFIG, Json, read
from coved.containers.logs import options as log_options
from coved.errors import EngineError, InvalidParameter
from coved.networks import EndpointRequest, PortRequest, SandboxRequest, endpoint_settings
from coved.networks.addresses import parse_address

DEFAULT_SHM = 64 << 20
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_MASKED = [
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
]  # fmt: skip
_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_PORT = re.compile(r"(\d{1,5})(?:/(tcp|udp|sctp))?")


@dataclass(frozen=True)
class Request:
    """A checked create request: Config, HostConfig, and the endpoints of NetworkingConfig."""

    config: Json
    host: Json
    endpoints: tuple[EndpointRequest, ...]
    warnings: tuple[str, ...] = ()
    """What the client is told about the request; not kept."""


def parse(body: Mapping[str, Any], image: Mapping[str, Any]) -> Request:
    """Read a create request for an image whose own configuration is ``image``. Raises InvalidParameter."""
    folded = {key.lower(): value for key, value in body.items()}
    host_raw = folded.get("hostconfig") or {}
    if not isinstance(host_raw, Mapping):
        raise InvalidParameter("invalid JSON: HostConfig must be an object")
    config = read(CONFIG, body, "Config")
    host = read(HOST_CONFIG, host_raw, "HostConfig")
    modes.check(config, host)
    inherit(config, image)
    if not (config["Entrypoint"] or config["Cmd"]):
        raise InvalidParameter("no command specified")
    _check_config(config)
    _check_extra_hosts(host["ExtraHosts"] or ())
    warnings = [*_normalise_host(host), *modes.warnings(host), *security.warnings(host)]
    return Request(config, host, _endpoints(folded.get("networkingconfig") or {}), tuple(warnings))


def _check_extra_hosts(entries: Iterable[str]) -> None:
    """Raises InvalidParameter for what is neither "name:address" nor "name:host-gateway"."""
    for entry in entries:
        name, separator, address = entry.partition(":")
        if not (name and separator):
            raise InvalidParameter(f"bad format for add-host: {log_options.quoted(entry)}")
        try:
            if address != "host-gateway":
                parse_address(address.strip())
        except ValueError:
            raise InvalidParameter(f"invalid IP address in add-host: {log_options.quoted(address)}") from None


def inherit(config: Json, image: Mapping[str, Any]) -> None:
    """Take from the image what the request leaves open (Docker's merge of both)."""
    config["User"] = config["User"] or image.get("User") or ""
    if not config["Entrypoint"]:
        # An entrypoint of one's own makes the image's command meaningless; [""] asks for none at all.
        if config["Entrypoint"] is None:
            if not config["Cmd"]:
                config["Cmd"] = list(image.get("Cmd") or []) or None
            config["Entrypoint"] = list(image.get("Entrypoint") or []) or None
    elif config["Entrypoint"] == [""]:
        config["Entrypoint"] = None
    config["WorkingDir"] = config["WorkingDir"] or image.get("WorkingDir") or ""
    given = {entry.partition("=")[0] for entry in config["Env"]}
    config["Env"] = [*config["Env"], *(e for e in image.get("Env") or () if e.partition("=")[0] not in given)]
    config["Labels"] = {**(image.get("Labels") or {}), **config["Labels"]}
    for key in ("ExposedPorts", "Volumes"):
        merged = {**{name: {} for name in image.get(key) or {}}, **(config[key] or {})}
        config[key] = merged or None
    config["Healthcheck"] = health.inherit(
        health.read(config["Healthcheck"]) if config["Healthcheck"] is not None else None, image.get("Healthcheck")
    )
    for key in ("StopSignal", "Shell"):
        if not config[key] and image.get(key):
            config[key] = image[key]


def _check_config(config: Json) -> None:
    for entry in config["Env"]:
        if entry.startswith("=") or not entry:
            raise InvalidParameter(f"invalid environment variable: {entry}")
    if config["WorkingDir"] and not config["WorkingDir"].startswith("/"):
        raise InvalidParameter(
            f"the working directory '{config['WorkingDir']}' is invalid, it needs to be an absolute path"
        )
    if config["StopSignal"]:
        signals.number(config["StopSignal"])
    health.check(config["Healthcheck"])
    for port in config["ExposedPorts"] or ():
        parse_port(port)
    # Docker takes any; what could write lines of its own into the container's /etc/hosts is no name of a host, nor is a
    # path, what cannot be encoded, or what no name in DNS can be as long as (the kernel takes 64 bytes, and says so itself).
    for name in (config["Hostname"], config["Domainname"]):
        if len(name) > 253 or any(one in "/\\\ufffd" or one.isspace() or not one.isprintable() for one in name):
            raise InvalidParameter(f"invalid hostname: {name!a}")


def _normalise_host(host: Json) -> list[str]:
    """Fill in the defaults that an inspect shows, and check what can be checked before a start; warnings about it."""
    if host["Isolation"] not in ("", "default"):
        raise EngineError(f"Invalid isolation: \"{host['Isolation']}\" - linux only supports 'default'")
    host["NetworkMode"] = host["NetworkMode"] or "default"
    host["IpcMode"] = host["IpcMode"] or "private"
    host["CgroupnsMode"] = host["CgroupnsMode"] or "private"
    host["ShmSize"] = host["ShmSize"] or DEFAULT_SHM
    host["Runtime"] = host["Runtime"] or runtimes.DEFAULT
    runtimes.program(host["Runtime"])
    host["CapAdd"] = capabilities.normalise(host["CapAdd"], "CapAdd") if host["CapAdd"] else host["CapAdd"]
    host["CapDrop"] = capabilities.normalise(host["CapDrop"], "CapDrop") if host["CapDrop"] else host["CapDrop"]
    if host["MaskedPaths"] is None:
        host["MaskedPaths"] = [] if host["Privileged"] else list(_MASKED)
    if host["ReadonlyPaths"] is None:
        host["ReadonlyPaths"] = [] if host["Privileged"] else list(_READONLY)
    host["LogConfig"] = log_options.normalise(host["LogConfig"])
    host["RestartPolicy"] = restarts.check(host["RestartPolicy"])
    if host["AutoRemove"] and host["RestartPolicy"]["Name"] != "no":
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    warnings = limits.check(host)
    if host["PidsLimit"] is not None and host["PidsLimit"] <= 0:
        host["PidsLimit"] = None  # dockerd's way of saying that there is none
    if host["ShmSize"] < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if not -1000 <= host["OomScoreAdj"] <= 1000:
        raise InvalidParameter(f"Invalid value {host['OomScoreAdj']}, range for oom score adj is [-1000, 1000]")
    if host["Tmpfs"]:
        from coved.containers import tmpfs

        tmpfs.check(host["Tmpfs"])
    for port, bindings in host["PortBindings"].items():
        parse_port(port)
        if bindings is not None and not isinstance(bindings, list):
            raise InvalidParameter(f"invalid JSON: HostConfig.PortBindings[{port}] must be an array")
    return warnings


def parse_port(text: str) -> tuple[int, str]:
    """``80/tcp`` or ``80``. Raises InvalidParameter."""
    match = _PORT.fullmatch(text)
    if match is None or not 0 < int(match[1]) < 65536:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return int(match[1]), match[2] or "tcp"


def port_requests(config: Json, host: Json) -> tuple[PortRequest, ...]:
    """The ports that a start has to publish. Raises InvalidParameter."""
    result = []
    bindings = dict(host["PortBindings"])
    if host["PublishAllPorts"]:
        bindings = {**{port: [{}] for port in config["ExposedPorts"] or ()}, **bindings}
    for text, entries in bindings.items():
        port, proto = parse_port(text)
        if proto == "sctp":
            if host["PortBindings"].get(text):
                raise InvalidParameter(f"cannot publish {text}: Cove forwards TCP and UDP only")
            continue  # an image may expose it, and whoever publishes all that is exposed gets what there is
        for entry in entries or [{}]:
            first, _, last = str((entry or {}).get("HostPort") or "0").partition("-")
            if not first.isdigit() or (last and not last.isdigit()) or int(last or first) > 65535:
                raise InvalidParameter(f'invalid port specification: "{entry["HostPort"]}"')
            host_ip = str((entry or {}).get("HostIp") or "")
            result.append(PortRequest("udp" if proto == "udp" else "tcp", port, host_ip, int(first), int(last or 0)))
    return tuple(result)


def sandbox_request(name: str, request: Request, mode: str) -> SandboxRequest:
    """What the networks domain is asked for; ``mode`` is NetworkMode with a container's name resolved to its id."""
    config, host = request.config, request.host
    exposed = {*(config["ExposedPorts"] or ()), *host["PortBindings"]}
    return SandboxRequest(
        container_name=name,
        mode="none" if config["NetworkDisabled"] else mode,
        endpoints=request.endpoints,
        ports=port_requests(config, host),
        exposed=tuple(sorted("/".join(map(str, parse_port(port))) for port in exposed)),
        hostname=config["Hostname"],
        domainname=config["Domainname"],
        dns=tuple(host["Dns"]),
        dns_search=tuple(host["DnsSearch"]),
        dns_options=tuple(host["DnsOptions"]),
        extra_hosts=tuple(host["ExtraHosts"] or ()),
        mac_address=config["MacAddress"],
    )


def _endpoints(networking: object) -> tuple[EndpointRequest, ...]:
    if not isinstance(networking, Mapping):
        raise InvalidParameter("invalid JSON: NetworkingConfig must be an object")
    configs = networking.get("EndpointsConfig") or {}
    if not isinstance(configs, Mapping):
        raise InvalidParameter("invalid JSON: NetworkingConfig.EndpointsConfig must be an object")
    return tuple(
        endpoint_settings.parse("bridge" if network == "default" else network, settings)
        for network, settings in configs.items()
    )
