"""An application of containers, as the Engine API's inspect tells of them and of their images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cove.errors import CoveError
from cove.kube.generate import settings, terms
from cove.kube.generate.binds import Binds
from cove.kube.generate.model import Application, Mount, Note, Port, Volume, Workload

_COMPOSE = "com.docker.compose."
_HEALTH = {
    "interval_s": "Interval",
    "timeout_s": "Timeout",
    "start_period_s": "StartPeriod",
    "start_interval_s": "StartInterval",
}
_SHM = 64 << 20
"""Docker's size of /dev/shm, which is Kubernetes' as well."""
_LOST = {
    "BlkioWeight": "the weight of its disk access", "CgroupParent": "the parent of its control group",
    "CpuShares": "cpu shares", "CpusetCpus": "which processors it may use", "DeviceRequests": "devices (GPUs)",
    "Devices": "devices", "Init": "init", "Links": "links", "OomScoreAdj": "the score for out of memory",
    "PidsLimit": "the limit of processes", "StorageOpt": "storage options", "Ulimits": "ulimits",
    "UTSMode": "the namespace of its host name", "UsernsMode": "the user namespace", "VolumesFrom": "volumes from",
}  # fmt: skip
"""Fields of HostConfig, when something is in them."""
_HANDLED = {
    "Binds", "CapAdd", "CapDrop", "CpuPeriod", "CpuQuota", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "GroupAdd", "IpcMode",
    "Memory", "MemoryReservation", "Mounts", "NanoCpus", "NetworkMode", "PidMode", "PortBindings", "Privileged",
    "ReadonlyRootfs", "RestartPolicy", "SecurityOpt", "ShmSize", "Sysctls", "Tmpfs",
}  # fmt: skip
_HERE_ALONE = {"AutoRemove", "ConsoleSize", "ContainerIDFile"}
"""What says how the engine is to treat it, and nothing of what is in it."""
_PATHS = {
    "MaskedPaths": {
        "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
        "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
    },
    "ReadonlyPaths": {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
}  # fmt: skip
"""Those of every container that is not privileged, in Kubernetes as well; some engines have others for each processor."""
_DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "CgroupnsMode": ("private",), "Isolation": ("default",), "Runtime": ("runc",),
}  # fmt: skip


class Found(NamedTuple):
    container: Mapping[str, Any]
    image: Mapping[str, Any]


def application(found: Sequence[Found], name: str, binds: Binds) -> Application:
    """`name` may be empty. Containers of one service of a compose project are one workload. Raises `CoveError`."""
    projects = {_labels(one).get(f"{_COMPOSE}project", "") for one in found} - {""}
    groups: dict[tuple[str, str], list[Found]] = {}
    for one in found:
        groups.setdefault(_service(one), []).append(one)
    made = Application(terms.label(name or (projects.pop() if len(projects) == 1 else next(iter(groups))[1])))
    services = Counter(service for _, service in groups)
    called = {key: "-".join(filter(None, key)) if services[key[1]] > 1 else key[1] for key in groups}
    names = terms.unique(called.values())
    volumes = {mount["Name"] for one in found for mount in one.container.get("Mounts") or () if _is_named(mount)}
    for key, its in terms.unique(sorted(volumes)).items():
        made.volumes[key] = Volume(its)
    for group, (first, *others) in sorted(groups.items()):
        service = group[1]
        made.workloads.append(_Reader(made, service, names[called[group]], first, binds).read(1 + len(others)))
        for other in others:
            if _told(service, other) != _told(service, first):
                its, own = (one.container["Name"].lstrip("/") for one in (other, first))
                made.notes.append(Note(service, f"what {its} has other than {own}, by which all of them are made"))
    return made


def _service(found: Found) -> tuple[str, str]:
    """The compose project and its service, or no project and the container's name."""
    labels = _labels(found)
    service = labels.get(f"{_COMPOSE}service")
    return (labels.get(f"{_COMPOSE}project", ""), service) if service else ("", found.container["Name"].lstrip("/"))


def _told(service: str, found: Found) -> tuple[Workload, list[Note]]:
    """All that is read of a container, but for what those of one service have each of their own: names, and numbers of ports here."""
    apart = Application("")
    made = _Reader(apart, service, "", found, Binds("ignore")).read(1)
    ports = [port._replace(published=None if port.published is None else 0) for port in made.ports]
    return replace(made, aliases=[], ports=ports), apart.notes


def _labels(found: Found) -> Mapping[str, str]:
    return found.container["Config"].get("Labels") or {}


def _is_named(mount: Mapping[str, Any]) -> bool:
    """Not a volume that was made for the container, which is gone with it."""
    return mount["Type"] == "volume" and not re.fullmatch("[0-9a-f]{64}", mount.get("Name") or "")


def _is_here_alone(place: Mapping[str, Any]) -> bool:
    return settings.is_loopback(place.get("HostIp") or "")


def _host_port(places: Sequence[Mapping[str, Any]], here_alone: bool) -> str:
    """The first, on a loopback address or not; "0" for none."""
    return next((one.get("HostPort") or "0" for one in places if _is_here_alone(one) is here_alone), "0")


class _Reader:
    """One container; of what it shares with its image only that is told which a cluster does not read there."""

    def __init__(self, application: Application, key: str, name: str, found: Found, binds: Binds) -> None:
        self._application = application
        self._key = key
        self._container, self._image = found
        self._config: Mapping[str, Any] = found.container["Config"]
        self._host: Mapping[str, Any] = found.container.get("HostConfig") or {}
        self._defaults: Mapping[str, Any] = found.image.get("Config") or {}
        self._binds = binds
        self._made = Workload(name, self._named(), built=not found.image.get("RepoDigests"))

    def _named(self) -> str:
        name = str(self._config.get("Image") or "")
        identifier = str(self._container.get("Image") or "")
        if name and not identifier.removeprefix("sha256:").startswith(name.removeprefix("sha256:")):
            return name
        tags = self._image.get("RepoTags") or ()
        if not tags:
            raise CoveError(
                f"{self._key}: its image has no name by which a cluster could get it", "give it one: cove tag"
            )
        return str(tags[0])

    def read(self, replicas: int) -> Workload:
        made, host = self._made, self._host
        made.replicas = replicas
        if made.built:
            self._application.notes.append(settings.made_here(self._key, made.image))
        if made.name != self._key:
            self._lose(f"its name: it is {made.name} in Kubernetes, also to those who speak to it")
        self._words()
        self._environment()
        self._ports()
        self._mounts()
        self._resources()
        self._simple()
        self._aliases()
        check = self._config.get("Healthcheck") or {}
        made.health = settings.health(check.get("Test"), check, _HEALTH)
        policy = host.get("RestartPolicy") or {}
        if policy.get("Name") == "on-failure":
            settings.restart(made, "on-failure", policy.get("MaximumRetryCount"))
        if (user := self._config.get("User") or "") != (self._defaults.get("User") or ""):
            settings.user(made, user, self._lose)
        settings.groups(made, host.get("GroupAdd") or (), self._lose)
        settings.capabilities(made, host.get("CapAdd") or (), host.get("CapDrop") or ())
        settings.security_options(made, host.get("SecurityOpt") or (), self._lose)
        settings.hosts(made, host.get("ExtraHosts") or (), self._lose)
        settings.resolver(made, host.get("Dns") or (), host.get("DnsSearch") or (), host.get("DnsOptions") or ())
        settings.kernel(made, host.get("Sysctls") or {})
        settings.namespaces(
            made, host.get("NetworkMode") or "", host.get("PidMode") or "", host.get("IpcMode") or "", self._lose
        )
        defaults = self._defaults.get("Labels") or {}
        own = {key: text for key, text in (self._config.get("Labels") or {}).items() if defaults.get(key) != text}
        settings.labels(made, {key: own[key] for key in own if not key.startswith(_COMPOSE)}, self._lose)
        for field, words in _LOST.items():
            if host.get(field) not in (None, [], {}, "", 0, -1, False):
                self._lose(words)
        for field in sorted(host.keys() - _LOST.keys() - _HANDLED - _HERE_ALONE):
            if not self._is_usual(field, host[field]):
                self._lose(f"HostConfig.{field}")
        return made

    def _is_usual(self, field: str, value: Any) -> bool:
        """Whether it is as the engine has it when nothing is said, which a cluster does too."""
        host = self._host
        if field in _PATHS:
            if value is None or host.get("Privileged"):
                return True
            usual = _PATHS[field]
            return bool(value) and all(path in usual or path.startswith("/sys/devices/system/cpu/") for path in value)
        if field == "MemorySwap" and value in (host.get("Memory"), 2 * (host.get("Memory") or 0)):
            return True  # no swap, as on most nodes, or what is made of a limit by itself
        if field == "LogConfig":
            return (value or {}).get("Type") in (None, "", "json-file", "local")
        return value in (None, [], {}, "", 0, -1, False) or value in _DEFAULTS.get(field, ())

    def _lose(self, text: str) -> None:
        self._application.notes.append(Note(self._key, text))

    def _words(self) -> None:
        entrypoint, command = self._config.get("Entrypoint") or [], self._config.get("Cmd") or []
        own, default = self._defaults.get("Entrypoint") or [], self._defaults.get("Cmd") or []
        if entrypoint != own or (not command and default):
            # Without an entrypoint it is the command that is run, and the image's entrypoint is not.
            self._made.command, self._made.args = (entrypoint, command or None) if entrypoint else (command, None)
        elif command != default:
            self._made.args = command

    def _environment(self) -> None:
        defaults = set(self._defaults.get("Env") or ())
        own = (line.partition("=") for line in self._config.get("Env") or () if line not in defaults)
        self._made.environment = {name: value for name, _, value in sorted(own)}

    def _ports(self) -> None:
        bound = self._host.get("PortBindings") or {}
        current = (self._container.get("NetworkSettings") or {}).get("Ports") or {}
        found = []
        for key in {*(self._config.get("ExposedPorts") or {}), *bound}:
            number, _, protocol = key.partition("/")
            published, here_alone = None, False
            if places := bound.get(key):
                here_alone = all(map(_is_here_alone, places))
                # As more may reach it, where it is published several times.
                told = _host_port(places, here_alone)
                if told == "0":
                    told = _host_port(current.get(key) or (), here_alone)
                published = int(told.partition("-")[0])
            found.append(Port(int(number), protocol or "tcp", published, here_alone))
        self._made.ports = sorted(found, key=lambda port: (port.number, port.protocol))

    def _mounts(self) -> None:
        asked = {mount.get("Target"): mount for mount in self._host.get("Mounts") or ()}
        for mount in self._container.get("Mounts") or ():
            target, read_only = mount["Destination"], mount.get("RW") is False
            if mount["Type"] == "bind":
                self._binds.mount(self._application, self._made, self._key, mount["Source"], target)
            elif mount["Type"] == "tmpfs":
                size = ((asked.get(target) or {}).get("TmpfsOptions") or {}).get("SizeBytes")
                self._made.mounts.append(Mount(target, memory=True, size=size))
            elif mount["Type"] == "volume":
                options = (asked.get(target) or {}).get("VolumeOptions") or {}
                name = mount["Name"] if _is_named(mount) else ""
                path = options.get("Subpath") or ""
                self._made.mounts.append(Mount(target, name, sub_path=path, read_only=read_only))
            else:
                self._lose(f"{mount['Type']} mount at {target}")
        for target, options in sorted((self._host.get("Tmpfs") or {}).items()):
            if options:
                self._lose(f"options of the tmpfs at {target}: {options}")
            self._made.mounts.append(Mount(target, memory=True))
        if (size := self._host.get("ShmSize") or _SHM) != _SHM:
            self._made.mounts.append(Mount("/dev/shm", memory=True, size=size))

    def _resources(self) -> None:
        host = self._host
        cpus = (host.get("NanoCpus") or 0) / 1e9
        if not cpus and (host.get("CpuQuota") or 0) > 0:
            cpus = host["CpuQuota"] / (host.get("CpuPeriod") or 100_000)
        if cpus:
            self._made.limits["cpu"] = terms.cpus(cpus)
        for made, field in ((self._made.limits, "Memory"), (self._made.requests, "MemoryReservation")):
            if size := host.get(field):
                made["memory"] = terms.memory(size)

    def _simple(self) -> None:
        made, config, host = self._made, self._config, self._host
        folder, grace = config.get("WorkingDir") or "", config.get("StopTimeout")
        if grace is not None and grace < 0:
            self._lose("a stop without a time limit: a cluster's own limit counts")
            grace = None
        settings.plain(
            made,
            folder="" if folder == self._defaults.get("WorkingDir") else folder,
            tty=bool(config.get("Tty")),
            stdin=bool(config.get("OpenStdin")),
            read_only=bool(host.get("ReadonlyRootfs")),
            privileged=bool(host.get("Privileged")),
            grace_s=grace,
        )
        hostname = config.get("Hostname") or ""
        own = host.get("NetworkMode") != "host" and not str(self._container.get("Id") or "").startswith(hostname)
        if hostname and own:
            settings.hostname(made, hostname, self._lose)
        if (signal := config.get("StopSignal") or "") != (self._defaults.get("StopSignal") or "") and signal:
            self._lose(f"stop signal {signal}")

    def _aliases(self) -> None:
        identifier = str(self._container.get("Id") or "")
        names: set[str] = set()
        networks = (self._container.get("NetworkSettings") or {}).get("Networks") or {}
        for network in networks.values():
            names |= {alias for alias in network.get("Aliases") or () if not identifier.startswith(alias)}
        if len(networks) > 1:
            self._lose("the parting of networks: all pods of a namespace reach each other")
        names -= {self._key, self._container["Name"].lstrip("/")}
        self._made.aliases = sorted({*settings.names(names, self._lose)} - {self._made.name})
