"""A container of a pod as the engine is asked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cove.kube.play import environment, probes
from cove.kube.play.configs import Configs
from cove.kube.play.environment import Facts, expanded
from cove.kube.play.fields import Fields
from cove.kube.play.plan import POD_IP, ROLE, Body, Container, Published
from cove.kube.play.services import PROTOCOLS
from cove.kube.play.storage import NAME, Storage, read_quantity

POLICIES = ("Always", "IfNotPresent", "Never")
LEAST_CPU = 10_000_000
"""Billionths of a processor: with less the kernel takes no limit, and a kubelet asks it for this much."""
RESTARTS = {"Always": "always", "OnFailure": "on-failure", "Never": "no"}


@dataclass
class Surroundings:
    """What a pod gives to all of its containers."""

    name: str
    facts: Facts
    configs: Configs
    storage: Storage
    labels: dict[str, str]
    security: Security
    host: Body
    """The part of HostConfig about namespaces."""
    restart: str
    grace_s: int


@dataclass(slots=True)
class Ports:
    names: dict[str, int] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Security:
    user: int | None = None
    group: int | None = None
    non_root: bool = False
    seccomp: str = ""
    groups: tuple[int, ...] = ()


def read_ports(container: Fields, made: Ports, *, host_network: bool) -> None:
    for port in container.each("ports"):
        number = port.number("containerPort", 0, 1, 65535)
        if not port.has("containerPort"):
            port.wrong(f"{port.path}.containerPort is missing")
        protocol = port.one_of("protocol", PROTOCOLS, "TCP").lower()
        if name := port.text("name"):
            made.names[name] = number
        made.numbers.append(number)
        host, address = port.number("hostPort", 0, 0, 65535), port.text("hostIP")
        if host and not host_network:
            made.published.append(Published(number, protocol, host, address))


def read_security(fields: Fields | None, outer: Security) -> Security:
    """What pods and containers may both say."""
    if fields is None:
        return outer
    fields.ignore("fsGroupChangePolicy", "supplementalGroupsPolicy")
    user, group = fields.integer("runAsUser", outer.user), fields.integer("runAsGroup", outer.group)
    non_root = fields.flag("runAsNonRoot")
    seccomp = outer.seccomp
    if profile := fields.inner("seccompProfile"):
        seccomp = profile.text("type", needed=True)
        if seccomp not in ("RuntimeDefault", "Unconfined"):
            profile.ignore("localhostProfile")
            profile.cannot(f"{profile.path}.type {seccomp} is not supported")
    if (armour := fields.inner("appArmorProfile")) and armour.text("type") not in ("RuntimeDefault", "Unconfined"):
        armour.ignore("localhostProfile")
        armour.cannot(f"{armour.path}.type {armour.text('type')} is not supported")
    if group is not None and user is None:
        fields.cannot(f"{fields.below('runAsGroup')} without runAsUser is not supported")
    return Security(user, group, outer.non_root if non_root is None else non_root, seccomp, outer.groups)


def read(container: Fields, pod: Surroundings, ports: Mapping[str, int], role: str) -> tuple[Container, probes.Probes]:
    container.ignore("terminationMessagePath", "terminationMessagePolicy", "resizePolicy", "ports")
    called = container.text("name", needed=True)
    if called and not NAME.match(called):
        container.wrong(f"{container.path}.name: {called!r} is no name: a-z, 0-9 and - are")
    if not container.about.endswith(f", container {called}"):
        container.about += f", container {called}"
    image = container.text("image", needed=True)
    if not image.isprintable():
        container.wrong(f"{container.path}.image: {image!r} is no name of an image")
    variables = environment.read(container, pod.facts, pod.configs)
    sidecar = role == "init" and container.one_of("restartPolicy", ("Always",)) == "Always"
    asked = probes.read(container, ports, environment.static(container))
    if role == "init" and not sidecar and (asked.health or asked.startup):
        container.wrong(f"{container.path}: an init container has no probes, unless its restartPolicy is Always")
    if role == "init":
        asked = probes.Probes(None, asked.startup)  # the pod's health is that of its containers
    security = read_security(container.inner("securityContext"), pod.security)
    body: Body = {
        "Image": image,
        "Labels": {**pod.labels, ROLE: role},
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "StopTimeout": pod.grace_s,
        "HostConfig": {
            **pod.host,
            "RestartPolicy": {"Name": "always" if sidecar else "no" if role == "init" else RESTARTS[pod.restart]},
            "Mounts": pod.storage.of_container(container),
            **_limits(container),
        },
    }
    for name, field_name in (("command", "Entrypoint"), ("args", "Cmd")):
        # An empty one is none: the image's counts, which the engine would take away.
        if words := container.texts(name):
            try:
                body[field_name] = [expanded(word, variables) for word in words]
            except ValueError as error:
                container.wrong(f"{container.path}.{name} {error}")
    if folder := container.text("workingDir"):
        body["WorkingDir"] = folder
    for name, field_name in (("tty", "Tty"), ("stdin", "OpenStdin"), ("stdinOnce", "StdinOnce")):
        if container.flag(name):
            body[field_name] = True
    if health := probes.of_container(asked):
        body["Healthcheck"] = health
    _secure(container, security, body)
    pull: Any = container.one_of("imagePullPolicy", POLICIES, "") or "IfNotPresent"
    startup = asked.startup.check if asked.startup and role == "init" else None
    made = Container(f"{pod.name}-{called}", called, body, pull, container.place, sidecar, startup)
    made.non_root = security.non_root and security.user is None
    if security.non_root and security.user == 0:
        container.wrong(f"{container.path}: runAsNonRoot, and runAsUser is 0")
    return made, asked


def _limits(container: Fields) -> Body:
    made: dict[str, int] = {}
    resources = container.inner("resources")
    if resources is None:
        return made
    for kind, memory, cpu, scale in (
        ("limits", "Memory", "NanoCpus", 10**9),
        ("requests", "MemoryReservation", "CpuShares", 1024),
    ):
        if amounts := resources.inner(kind):
            made[memory], made[cpu] = read_quantity(amounts, "memory"), read_quantity(amounts, "cpu", scale)
            if kind == "requests":  # what a scheduler would look at, which there is not
                amounts.ignore(
                    "ephemeral-storage", *(name for name in amounts.names() if name.startswith("hugepages-"))
                )
    if made.get("NanoCpus"):
        made["NanoCpus"] = max(LEAST_CPU, made["NanoCpus"])
    if made.get("CpuShares"):
        made["CpuShares"] = max(2, min(made["CpuShares"], 262144))
    if 0 < made.get("Memory", 0) < made.get("MemoryReservation", 0):
        resources.wrong(f"{resources.path}: more memory is requested than its limit")
    return {name: amount for name, amount in made.items() if amount}


def _secure(container: Fields, security: Security, body: Body) -> None:
    host, options = body["HostConfig"], []
    if security.user is not None:
        body["User"] = str(security.user) if security.group is None else f"{security.user}:{security.group}"
    if security.groups:
        host["GroupAdd"] = [str(group) for group in security.groups]
    own = container.inner("securityContext")
    if own is not None:
        if own.flag("privileged"):
            host["Privileged"] = True
        if own.flag("readOnlyRootFilesystem"):
            host["ReadonlyRootfs"] = True
        if own.flag("allowPrivilegeEscalation") is False:
            options.append("no-new-privileges")
        if own.text("procMount", "Default") != "Default":
            own.cannot(f"{own.path}.procMount is not supported")
        if capabilities := own.inner("capabilities"):
            for name, field_name in (("add", "CapAdd"), ("drop", "CapDrop")):
                if words := capabilities.texts(name):
                    host[field_name] = words
    if security.seccomp == "Unconfined":
        options.append("seccomp=unconfined")
    if options:
        host["SecurityOpt"] = options


def asks_for_ip(containers: Sequence[Container]) -> bool:
    """Whether one of them is told the pod's address."""
    return any(
        POD_IP in text
        for each in containers
        for key in ("Env", "Entrypoint", "Cmd")
        for text in each.body.get(key) or ()
    )
