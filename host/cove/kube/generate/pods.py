"""The pod of a workload: its one container, its probes, and what is mounted into it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from cove.kube.generate import terms
from cove.kube.generate.model import Application, Health, Mount, Source, Workload

Keys = Callable[[Source], list[str]]


def pod(application: Application, workload: Workload, image: str, keys: Keys) -> dict[str, Any]:
    mounts, volumes = _mounts(application, workload, keys)
    container: dict[str, Any] = {"name": workload.name, "image": image}
    if workload.command:
        container["command"] = [terms.literal(word) for word in workload.command]
    if workload.args:
        container["args"] = [terms.literal(word) for word in workload.args]
    if workload.environment:
        container["env"] = [
            {"name": name, "value": terms.literal(workload.environment[name])} for name in sorted(workload.environment)
        ]
    if workload.ports:
        container["ports"] = [
            {"name": port.name, "containerPort": port.number, "protocol": port.protocol.upper()}
            for port in workload.ports
        ]
    if workload.health is not None:
        container |= _probes(workload.health)
    resources = {"limits": workload.limits, "requests": workload.requests}
    if given := {name: dict(sorted(amounts.items())) for name, amounts in resources.items() if amounts}:
        container["resources"] = given
    if workload.security:
        container["securityContext"] = workload.security
    if mounts:
        container["volumeMounts"] = mounts
    container |= workload.container
    spec: dict[str, Any] = {
        # A container of Docker's knows nothing of the API, nor finds its environment full of others' addresses.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
        **workload.pod,
    }
    if workload.pod_security:
        spec["securityContext"] = workload.pod_security
    if volumes:
        spec["volumes"] = volumes
    return spec


def _probes(health: Health) -> dict[str, Any]:
    """Docker's one check says both whether a container is to have traffic and, here, whether it is to be started anew. During its start
    period failures do not count, and the first success ends it: a startup probe."""
    probe = {
        # Replaced in as a container's own words are.
        "exec": {"command": [terms.literal(word) for word in health.command]},
        "periodSeconds": terms.whole_seconds(health.interval_s),
        "timeoutSeconds": terms.whole_seconds(health.timeout_s),
        "failureThreshold": health.retries,
    }
    made: dict[str, Any] = {"livenessProbe": probe, "readinessProbe": dict(probe)}
    if health.start_period_s:
        every = min(terms.whole_seconds(health.start_interval_s), terms.whole_seconds(health.interval_s))
        more = math.ceil(health.start_period_s / every)
        made["startupProbe"] = {**probe, "periodSeconds": every, "failureThreshold": more + health.retries}
    return made


def _mounts(
    application: Application, workload: Workload, keys: Keys
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Of the container, and of the pod. A volume that is mounted twice is one."""
    mounts: list[dict[str, Any]] = []
    volumes: dict[str, dict[str, Any]] = {}
    for mount in sorted(workload.mounts, key=lambda one: one.target):
        volume = _volume(application, mount, keys)
        name = next((known for known, its in volumes.items() if its == volume and not _is_empty(volume)), None)
        if name is None:
            name = _name(application, mount, len(volumes))
            volumes[name] = volume
        made: dict[str, Any] = {"name": name, "mountPath": mount.target}
        if mount.read_only:
            made["readOnly"] = True
        sub_path = _key(application, mount, keys) if mount.key else mount.sub_path
        if sub_path:
            made["subPath"] = sub_path
        mounts.append(made)
    return mounts, [{"name": name, **volume} for name, volume in volumes.items()]


def _is_empty(volume: dict[str, Any]) -> bool:
    return "emptyDir" in volume


def _name(application: Application, mount: Mount, number: int) -> str:
    own = application.volumes[mount.volume].name if mount.volume else ""
    return f"volume-{number}" + (f"-{terms.label(own)}"[:50].rstrip("-") if own else "")


def _key(application: Application, mount: Mount, keys: Keys) -> str:
    source = application.sources[mount.source]
    return mount.key if source.external else keys(source)[list(source.files).index(mount.key)]


def _volume(application: Application, mount: Mount, keys: Keys) -> dict[str, Any]:
    if mount.volume:
        return {"persistentVolumeClaim": {"claimName": application.volumes[mount.volume].name}}
    if mount.source:
        return _files(application.sources[mount.source], mount, keys)
    empty: dict[str, Any] = {"medium": "Memory"} if mount.memory else {}
    if mount.size:
        empty["sizeLimit"] = terms.memory(mount.size)
    return {"emptyDir": empty}


def _files(source: Source, mount: Mount, keys: Keys) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if mount.mode is not None:
        made["defaultMode"] = mount.mode & 0o777
    if not source.external and (not mount.key or any(file.executable for file in source.files.values())):
        pairs = zip(keys(source), source.files.items(), strict=True)
        made["items"] = [
            {"key": key, "path": key if mount.key else path, **({"mode": 0o755} if file.executable else {})}
            for key, (path, file) in pairs
        ]
    if source.secret:
        return {"secret": {"secretName": source.name, **made}}
    return {"configMap": {"name": source.name, **made}}
