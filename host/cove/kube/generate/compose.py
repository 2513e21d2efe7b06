"""An application of a compose file, as `docker compose config --format json` has normalised it (the Compose Specification)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cove.errors import CoveError
from cove.kube.generate import settings, terms
from cove.kube.generate.binds import MOST_BYTES, Binds, read_file
from cove.kube.generate.model import Application, File, Mount, Note, Port, Source, Volume, Workload

Service = Mapping[str, Any]

_HANDLED = {
    "annotations", "build", "cap_add", "cap_drop", "command", "configs", "container_name", "cpus", "depends_on", "deploy",
    "dns", "dns_opt", "dns_search", "entrypoint", "environment", "expose", "extra_hosts", "group_add", "healthcheck",
    "hostname", "image", "ipc", "labels", "links", "mem_limit", "mem_reservation", "network_mode", "networks", "pid",
    "platform", "ports", "privileged", "pull_policy", "read_only", "restart", "scale", "secrets", "security_opt", "shm_size",
    "stdin_open", "stop_grace_period", "sysctls", "tmpfs", "tty", "user", "volumes", "working_dir",
}  # fmt: skip
_STARTER = ("cove/starter", "cove/starter:latest")
"""The image that each machine has, and no registry."""
_HERE_ALONE = {"attach", "develop", "env_file", "extends", "label_file", "profiles"}
"""What says how compose is to work, and nothing of the container; or what is in other keys already."""
_DEPLOY = {"endpoint_mode", "labels", "mode", "placement", "replicas", "resources", "restart_policy"}
_HEALTH = {
    "interval_s": "interval",
    "timeout_s": "timeout",
    "start_period_s": "start_period",
    "start_interval_s": "start_interval",
}
_PULL = {"always": "Always", "never": "Never", "missing": "IfNotPresent", "if_not_present": "IfNotPresent"}


def application(config: Mapping[str, Any], name: str, binds: Binds) -> Application:
    """`name` may be empty: then it is the project's. Raises `CoveError` for what cannot be made sense of, or must not be carried."""
    config = _plain(config)
    services: Mapping[str, Service] = config.get("services") or {}
    if not services:
        raise CoveError("the compose file has no services")
    made = Application(terms.label(name or config.get("name") or "application"))
    names = terms.unique([*services])
    volumes = config.get("volumes") or {}
    keys = terms.unique(key for key, value in volumes.items() if not (value or {}).get("external"))
    for key, value in volumes.items():
        value = value or {}
        external = bool(value.get("external"))
        made.volumes[key] = Volume(str(value.get("name") or key) if external else keys[key], external)
        if value.get("driver_opts"):
            made.notes.append(Note("", f"volume {key}: its driver's options; the claim is of the cluster's storage"))
    for key, network in (config.get("networks") or {}).items():
        if (network or {}).get("internal"):
            made.notes.append(
                Note("", f"network {key}: internal: what is on it reaches the world outside in a cluster")
            )
    for secret, section in ((False, "configs"), (True, "secrets")):
        for key, value in (config.get(section) or {}).items():
            made.sources[f"{section}/{key}"] = _source(key, value or {}, secret, made.name)
    ending = {
        other
        for service in services.values()
        for other, how in (service.get("depends_on") or {}).items()
        if (how or {}).get("condition") == "service_completed_successfully"
    }
    for key in sorted(services):
        reader = _Reader(made, config.get("name") or made.name, key, names, services[key], binds)
        made.workloads.append(reader.read(ends=key in ending))
    return made


def _plain(value: Any) -> Any:
    """Without what compose writes so that it can be read as a compose file again: `$$` for `$`."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _source(key: str, value: Mapping[str, Any], secret: bool, application: str) -> Source:
    if value.get("external"):
        return Source(str(value.get("name") or key), {}, secret, external=True)
    kind = "secret" if secret else "config"
    if "file" in value:
        try:
            content = read_file(Path(value["file"]), MOST_BYTES, f"{kind} {key}: {value['file']}").content
        except OSError as error:
            raise CoveError(f"{kind} {key}: {value['file']}: {error.strerror}") from error
    elif "environment" in value:
        if value["environment"] not in os.environ:
            raise CoveError(f"{kind} {key}: the variable {value['environment']} is not set")
        content = os.environ[value["environment"]].encode()
    elif "content" in value:
        content = str(value["content"]).encode()
    else:
        raise CoveError(f"{kind} {key} has neither a file, nor a variable, nor a content")
    return Source(f"{application}-{kind}-{terms.label(key)}", {"content": File(content)}, secret)


class _Reader:
    """One service."""

    def __init__(
        self,
        application: Application,
        project: str,
        key: str,
        names: Mapping[str, str],
        service: Service,
        binds: Binds,
    ) -> None:
        self._application = application
        self._key = key
        self._names = names
        self._service = service
        self._binds = binds
        self._deploy: Mapping[str, Any] = service.get("deploy") or {}
        image = service.get("image") or ""
        # An image without a name is called by compose after its project, whatever the application is called in the cluster.
        self._made = Workload(names[key], image or f"{project}-{key}", built="build" in service or image in _STARTER)

    def read(self, *, ends: bool) -> Workload:
        made, service = self._made, self._service
        if made.name != self._key:
            self._lose(f"its name: it is {made.name} in Kubernetes, also to those who speak to it")
        for part in self._parts():
            part()
        if ends and made.attempts is None:
            settings.restart(made, "on-failure", None)
        settings.user(made, str(service.get("user") or ""), self._lose)
        settings.groups(made, map(str, service.get("group_add") or ()), self._lose)
        settings.capabilities(made, service.get("cap_add") or (), service.get("cap_drop") or ())
        settings.security_options(made, service.get("security_opt") or (), self._lose)
        settings.hosts(made, _lines(service.get("extra_hosts")), self._lose)
        settings.resolver(
            made, _list(service.get("dns")), _list(service.get("dns_search")), _list(service.get("dns_opt"))
        )
        settings.kernel(made, service.get("sysctls") or {})
        settings.namespaces(
            made, service.get("network_mode") or "", service.get("pid") or "", service.get("ipc") or "", self._lose
        )
        settings.labels(made, {**(service.get("labels") or {}), **(service.get("annotations") or {})}, self._lose)
        self._tell_the_rest()
        return made

    def _parts(self) -> Iterable[Callable[[], None]]:
        return (
            self._words,
            self._environment,
            self._ports,
            self._mounts,
            self._files,
            self._health,
            self._resources,
            self._scale,
            self._restart,
            self._simple,
            self._aliases,
            self._order,
        )

    def _lose(self, text: str) -> None:
        self._application.notes.append(Note(self._key, text))

    def _words(self) -> None:
        entrypoint, command = self._service.get("entrypoint"), self._service.get("command")
        # An empty entrypoint takes the image's away: what is left to run is the command.
        if entrypoint:
            self._made.command, self._made.args = list(entrypoint), list(command) if command else None
        elif entrypoint is not None and command:
            self._made.command = list(command)
        elif command:
            self._made.args = list(command)
        elif entrypoint is not None:
            self._lose("the empty entrypoint, without a command: the image's own is run")

    def _environment(self) -> None:
        given = self._service.get("environment") or {}
        self._made.environment = {name: str(value) for name, value in sorted(given.items()) if value is not None}

    def _ports(self) -> None:
        found: dict[tuple[int, str], Port] = {}
        for port in self._service.get("ports") or ():
            number, protocol = int(port["target"]), port.get("protocol") or "tcp"
            published = str(port.get("published") or "").partition("-")[0]
            here_alone = settings.is_loopback(str(port.get("host_ip") or ""))
            its = Port(number, protocol, int(published or 0), here_alone)
            before = found.get((number, protocol))
            # One that is published several times: as more may reach it, and then by a number that is known.
            if before is None or (its.is_for_all, bool(its.published)) > (before.is_for_all, bool(before.published)):
                found[number, protocol] = its
        for exposed in self._service.get("expose") or ():
            numbers, _, protocol = str(exposed).partition("/")
            first, _, last = numbers.partition("-")
            for number in range(int(first), int(last or first) + 1):
                found.setdefault((number, protocol or "tcp"), Port(number, protocol or "tcp"))
        self._made.ports = [found[key] for key in sorted(found)]

    def _mounts(self) -> None:
        for mount in self._service.get("volumes") or ():
            target, read_only = mount["target"], bool(mount.get("read_only"))
            kind, source = mount["type"], mount.get("source") or ""
            if kind == "volume":
                sub_path = (mount.get("volume") or {}).get("subpath") or ""
                self._made.mounts.append(Mount(target, source, sub_path=sub_path, read_only=read_only))
            elif kind == "tmpfs":
                size = (mount.get("tmpfs") or {}).get("size")
                self._made.mounts.append(Mount(target, memory=True, size=int(size) if size else None))
            elif kind == "bind":
                self._binds.mount(self._application, self._made, self._key, source, target)
            else:
                self._lose(f"{kind} mount at {target}")
        for line in _list(self._service.get("tmpfs")):
            target, _, options = line.partition(":")
            if options:
                self._lose(f"options of the tmpfs at {target}: {options}")
            self._made.mounts.append(Mount(target, memory=True))
        if size := self._service.get("shm_size"):
            self._made.mounts.append(Mount("/dev/shm", memory=True, size=int(size)))

    def _files(self) -> None:
        for section, folder in (("configs", "/"), ("secrets", "/run/secrets/")):
            for use in self._service.get(section) or ():
                source = f"{section}/{use['source']}"
                target = use.get("target") or use["source"]
                target = target if target.startswith("/") else folder + target
                if use.get("uid") or use.get("gid"):
                    self._lose(f"the owner of {target}")
                external = self._application.sources[source].external
                mode = use.get("mode")
                key = use["source"] if external else "content"
                if external:
                    kind = "Secret" if section == "secrets" else "ConfigMap"
                    name = self._application.sources[source].name
                    text = f"{target} is the key {key} of the {kind} {name}, which must be in the namespace"
                    self._application.notes.append(Note(self._key, text, lost=False))
                mode = int(mode, 8) if isinstance(mode, str) else mode
                self._made.mounts.append(Mount(target, source=source, key=key, read_only=True, mode=mode))

    def _health(self) -> None:
        given = self._service.get("healthcheck") or {}
        if given.get("disable"):
            return
        self._made.health = settings.health(given.get("test"), given, _HEALTH)

    def _resources(self) -> None:
        resources = self._deploy.get("resources") or {}
        for made, section, own in (
            (self._made.limits, "limits", ("cpus", "mem_limit")),
            (self._made.requests, "reservations", ("", "mem_reservation")),
        ):
            given = resources.get(section) or {}
            if cpus := float(given.get("cpus") or self._service.get(own[0]) or 0):
                made["cpu"] = terms.cpus(cpus)
            if memory := int(given.get("memory") or self._service.get(own[1]) or 0):
                made["memory"] = terms.memory(memory)
            for key in sorted(given.keys() - {"cpus", "memory"}):
                self._lose(f"deploy.resources.{section}.{key}")

    def _scale(self) -> None:
        replicas = self._deploy.get("replicas", self._service.get("scale"))
        self._made.replicas = 1 if replicas is None else int(replicas)
        if (mode := self._deploy.get("mode")) not in (None, "replicated"):
            self._lose(f"deploy.mode {mode}: it has {self._made.replicas} of it")
        if self._deploy.get("placement"):
            self._lose("deploy.placement")
        for key in sorted(self._deploy.keys() - _DEPLOY):
            self._lose(f"deploy.{key}")

    def _restart(self) -> None:
        swarm = self._deploy.get("restart_policy") or {}
        policy, _, most = (self._service.get("restart") or "").partition(":")
        if condition := swarm.get("condition"):
            policy, most = (
                {"none": "no", "any": "always"}.get(condition, condition),
                str(swarm.get("max_attempts") or ""),
            )
        settings.restart(self._made, policy, int(most) if most else None)

    def _simple(self) -> None:
        made, service = self._made, self._service
        grace = service.get("stop_grace_period")
        settings.plain(
            made,
            folder=service.get("working_dir") or "",
            tty=bool(service.get("tty")),
            stdin=bool(service.get("stdin_open")),
            read_only=bool(service.get("read_only")),
            privileged=bool(service.get("privileged")),
            grace_s=terms.seconds(grace) if grace else None,
        )
        if policy := _PULL.get(service.get("pull_policy") or ""):
            made.container["imagePullPolicy"] = policy
        if service.get("hostname"):
            settings.hostname(made, service["hostname"], self._lose)
        if platform := service.get("platform"):
            system, _, architecture = platform.partition("/")
            made.pod["nodeSelector"] = {"kubernetes.io/os": system}
            if architecture:
                made.pod["nodeSelector"]["kubernetes.io/arch"] = architecture.partition("/")[0]

    def _aliases(self) -> None:
        names = [self._service.get("container_name") or ""]
        networks = self._service.get("networks") or {}
        for network in networks.values():
            names += (network or {}).get("aliases") or ()
            if others := sorted((network or {}).keys() - {"aliases"}):
                self._lose(f"what it says of its networks: {', '.join(others)}")
        if set(networks) - {"default"}:
            self._lose("the parting of networks: all pods of a namespace reach each other")
        # Its own name, which an alias may repeat, has been told of.
        others = [name for name in names if name and name != self._key]
        self._made.aliases = sorted({*settings.names(others, self._lose)} - {self._made.name})
        for link in self._service.get("links") or ():
            other, _, alias = link.partition(":")
            if alias and alias != other:
                self._lose(f"link: {other} is not known as {alias}, which a network alias of {other} would do")

    def _order(self) -> None:
        if others := sorted(self._service.get("depends_on") or {}):
            self._lose(f"its start after {', '.join(others)}: Kubernetes has no order, and starts anew what has failed")

    def _tell_the_rest(self) -> None:
        if self._made.built:
            self._application.notes.append(settings.made_here(self._key, self._made.image))
        for key in sorted(self._service.keys() - _HANDLED - _HERE_ALONE):
            if self._service[key] not in (None, [], {}, "", False) and not key.startswith("x-"):
                self._lose(key)


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value or ()]


def _lines(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        pairs = ((name, _list(addresses)) for name, addresses in value.items())
        return [f"{name}={address}" for name, addresses in pairs for address in addresses]
    return _list(value)
