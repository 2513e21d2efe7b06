"""Kubernetes' objects for an application, always the same and in the same order for the same one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cove.errors import CoveError
from cove.kube.generate import terms
from cove.kube.generate.model import Application, Note, Port, Source, Workload
from cove.kube.generate.pods import pod

Object = dict[str, Any]

MANAGER = "cove"
MANAGED_BY = "app.kubernetes.io/managed-by"
APPLICATION = "cove.dev/application"
NAME = "app.kubernetes.io/name"
CONFIGURATION = "cove.dev/configuration"
"""An annotation of pods: a digest of the files that they read, so that others bring other pods."""


@dataclass(frozen=True)
class Route:
    """Of an Ingress: a host's name leads to a Service."""

    host: str
    service: str
    port: int | None = None


@dataclass(frozen=True)
class Options:
    namespace: str = ""
    service_type: str = "ClusterIP"
    volume_size: str = "1Gi"
    storage_class: str = ""
    routes: tuple[Route, ...] = ()
    ingress_class: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Image -> what is to be run for it."""


def labels(application: str, name: str = "") -> dict[str, str]:
    made = {MANAGED_BY: MANAGER, "app.kubernetes.io/part-of": application, APPLICATION: application}
    return {NAME: name, **made} if name else made


def objects(application: Application, options: Options) -> list[Object]:
    """In the order in which they are to be applied. Raises `CoveError`."""
    made = [
        *_sources(application, options),
        *_claims(application, options),
        *(one for workload in application.workloads for one in _services(application, workload, options)),
        *(_workload(application, workload, options) for workload in application.workloads),
        *_ingress(application, options),
    ]
    seen: set[tuple[str, str]] = set()
    for one in made:
        key = one["kind"], one["metadata"]["name"]
        if key in seen:
            raise CoveError(f"there would be two of {key[0]} {key[1]}", "give one another name")
        seen.add(key)
    return made


def _object(api: str, kind: str, name: str, application: Application, options: Options, **fields: Any) -> Object:
    metadata = {"name": name, "labels": labels(application.name)}
    if options.namespace:
        metadata["namespace"] = options.namespace
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}


def _sources(application: Application, options: Options) -> Iterator[Object]:
    for secret, kind in ((False, "ConfigMap"), (True, "Secret")):
        found = (one for one in application.sources.values() if one.secret is secret and not one.external)
        for source in sorted(found, key=lambda one: one.name):
            data = {key: file.content for key, file in zip(keys(source), source.files.values(), strict=True)}
            if secret:
                fields: dict[str, Any] = {"type": "Opaque", "data": {key: _base64(data[key]) for key in sorted(data)}}
            else:
                fields = _plain_and_binary(data)
            yield _object("v1", kind, source.name, application, options, **fields)


def keys(source: Source) -> list[str]:
    """What its files are called in the object, whose keys have no "/"."""
    made = [re.sub(r"[^-._a-zA-Z0-9]", "_", name.replace("/", "__")) for name in source.files]
    return made if len(set(made)) == len(made) else [f"file-{number}" for number in range(len(made))]


def _plain_and_binary(data: Mapping[str, bytes]) -> dict[str, Any]:
    plain: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key in sorted(data):
        try:
            plain[key] = data[key].decode()
        except UnicodeDecodeError:
            binary[key] = _base64(data[key])
    return {**({"data": plain} if plain or not binary else {}), **({"binaryData": binary} if binary else {})}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def shared_volumes(application: Application) -> list[Note]:
    """What the claims, which one node can have at a time, do not give."""
    made = []
    for name, workloads in sorted(_users(application).items()):
        many = sum(workload.replicas for workload in workloads)
        if many > 1 and not application.volumes[name].external:
            text = f"volume {name}: {many} pods share it, which ReadWriteOnce lets those on one node do"
            made.append(Note("", text))
    return made


def _users(application: Application) -> dict[str, list[Workload]]:
    """Of each volume that somebody uses."""
    users: dict[str, list[Workload]] = {}
    for workload in application.workloads:
        for name in {mount.volume for mount in workload.mounts if mount.volume}:
            users.setdefault(name, []).append(workload)
    return users


def _claims(application: Application, options: Options) -> Iterator[Object]:
    users = _users(application)
    for name, volume in sorted(application.volumes.items()):
        if name not in users or volume.external:
            continue
        spec: dict[str, Any] = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": options.volume_size}},
        }
        if options.storage_class:
            spec["storageClassName"] = options.storage_class
        yield _object("v1", "PersistentVolumeClaim", volume.name, application, options, spec=spec)


def _services(application: Application, workload: Workload, options: Options) -> Iterator[Object]:
    if workload.attempts is not None and not workload.ports:
        return  # nobody speaks to what only comes to its end
    outside = [port for port in workload.ports if port.is_for_all] if options.service_type != "ClusterIP" else []
    # A Service is as a whole for all or not.
    apart = bool(outside) and any(port.here_alone for port in workload.ports)
    for name in (workload.name, *workload.aliases):
        spec: dict[str, Any] = {"selector": {NAME: workload.name, APPLICATION: application.name}}
        if not workload.ports:
            # A name that leads to the pods themselves, on whatever port they listen.
            spec["clusterIP"] = "None"
        elif name == workload.name and outside and not apart:
            spec |= _for_all(workload.ports, outside, options)
        else:
            spec |= {"type": "ClusterIP", "ports": [_port(port, port.number, port.name) for port in workload.ports]}
        yield _service(application, workload, name, options, spec)
    if apart:
        spec = {"selector": {NAME: workload.name, APPLICATION: application.name}, **_for_all(outside, outside, options)}
        yield _service(application, workload, published_name(workload), options, spec)


def published_name(workload: Workload) -> str:
    """Of the Service for the ports that are for all, beside that for others which are not."""
    return terms.label(f"{workload.name[:50]}-published")


def bound_here(application: Application, service_type: str) -> list[Note]:
    """What does not become of `service_type`: ports on a loopback address are for nobody but this computer."""
    if service_type == "ClusterIP":
        return []
    made = []
    for workload in application.workloads:
        if ports := [f"{port.number}/{port.protocol}" for port in workload.ports if port.here_alone]:
            text = f"{', '.join(ports)}: published for this computer alone, and not by a {service_type}"
            if any(port.is_for_all for port in workload.ports):
                text += f"; the others are of the Service {published_name(workload)}"
            made.append(Note(workload.name, text, lost=False))
    return made


def _service(application: Application, workload: Workload, name: str, options: Options, spec: dict[str, Any]) -> Object:
    made = _object("v1", "Service", name, application, options, spec=spec)
    made["metadata"]["labels"] = labels(application.name, workload.name)
    return made


def _for_all(ports: Sequence[Port], outside: Sequence[Port], options: Options) -> dict[str, Any]:
    made = [_port(port, port.number, port.name) for port in ports]
    if options.service_type == "LoadBalancer":
        made += _as_published(ports, outside)
    return {"type": options.service_type, "ports": made}


def _port(port: Port, number: int, name: str) -> dict[str, Any]:
    return {"name": name, "port": number, "protocol": port.protocol.upper(), "targetPort": port.number}


def _as_published(ports: Sequence[Port], outside: Sequence[Port]) -> list[dict[str, Any]]:
    """The numbers that the world outside knows, where they are others than those in the container."""
    inner = {(port.number, port.protocol) for port in ports}
    return [
        _port(port, port.published, f"{port.protocol}-{port.published}")
        for port in outside
        if port.published and (port.published, port.protocol) not in inner
    ]


def _workload(application: Application, workload: Workload, options: Options) -> Object:
    template: dict[str, Any] = {
        "metadata": {"labels": labels(application.name, workload.name)},
        "spec": pod(application, workload, options.digests.get(workload.image, workload.image), keys),
    }
    if digest := _configuration(application, workload):
        template["metadata"]["annotations"] = {CONFIGURATION: digest}
    if workload.attempts is None:
        spec: dict[str, Any] = {
            "replicas": workload.replicas,
            "selector": {"matchLabels": {NAME: workload.name, APPLICATION: application.name}},
        }
        if any(mount.volume for mount in workload.mounts) or workload.pod.get("hostNetwork"):
            # The new pod cannot have the volume, or a port of the node, while the old one has it.
            spec["strategy"] = {"type": "Recreate"}
        spec["template"] = template
        made = _object("apps/v1", "Deployment", workload.name, application, options, spec=spec)
    else:
        spec = {"backoffLimit": workload.attempts, "template": template}
        if workload.replicas > 1:
            spec |= {"completions": workload.replicas, "parallelism": workload.replicas}
        made = _object("batch/v1", "Job", workload.name, application, options, spec=spec)
    made["metadata"]["labels"] = labels(application.name, workload.name)
    if workload.annotations:
        made["metadata"]["annotations"] = dict(sorted(workload.annotations.items()))
    return made


def _configuration(application: Application, workload: Workload) -> str:
    found = sorted({mount.source for mount in workload.mounts if mount.source})
    own = [source for name in found if not (source := application.sources[name]).external]
    if not own:
        return ""
    data = [
        [one.name, [[key, hashlib.sha256(file.content).hexdigest()] for key, file in sorted(one.files.items())]]
        for one in own
    ]
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:32]


def _ingress(application: Application, options: Options) -> Iterator[Object]:
    if not options.routes:
        return
    rules = []
    for route in options.routes:
        backend = {"name": terms.label(route.service), "port": {"number": _routed(application, route)}}
        path = {"path": "/", "pathType": "Prefix", "backend": {"service": backend}}
        rules.append({"host": route.host, "http": {"paths": [path]}})
    spec: dict[str, Any] = {"rules": rules}
    if options.ingress_class:
        spec = {"ingressClassName": options.ingress_class, **spec}
    yield _object("networking.k8s.io/v1", "Ingress", application.name, application, options, spec=spec)


def _routed(application: Application, route: Route) -> int:
    name = terms.label(route.service)
    workload = next((one for one in application.workloads if one.name == name), None)
    if workload is None:
        known = ", ".join(one.name for one in application.workloads)
        raise CoveError(f"ingress {route.host}: there is no service {route.service}", f"there are: {known}")
    ports = [port for port in workload.ports if port.protocol == "tcp"]
    if route.port is not None:
        ports = [port for port in ports if port.number == route.port]
    if len(ports) != 1:
        known = ", ".join(str(port.number) for port in workload.ports if port.protocol == "tcp") or "none"
        raise CoveError(
            f"ingress {route.host}: which TCP port of {route.service}?",
            f"it has: {known}; {route.host}=SERVICE:PORT says it",
        )
    return ports[0].number
