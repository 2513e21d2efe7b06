"""Containers as the API shows them: inspect and list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coved.containers import health, list_filters
from coved.containers.config_schema import CONFIG, HOST_CONFIG, shown
from coved.containers.container import Container
from coved.containers.durations import rfc3339
from coved.containers.mountpoints import MountPoint
from coved.filters import Filters, found

if TYPE_CHECKING:
    from coved.containers.manager import Containers

FILTERS = frozenset(
    {
        "ancestor",
        "before",
        "exited",
        "expose",
        "health",
        "id",
        "is-task",
        "label",
        "name",
        "network",
        "publish",
        "since",
        "status",
        "volume",
    }
)
STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")


async def inspect(containers: Containers, container: Container, *, size: bool = False) -> dict[str, Any]:
    """``GET /containers/{id}/json``."""
    config, host, state = container.config, container.host_config, container.state
    command = [*(config["Entrypoint"] or ()), *(config["Cmd"] or ())]
    directory = containers.layout(container).directory
    result: dict[str, Any] = {
        "Id": container.id,
        "Created": rfc3339(container.created),
        "Path": command[0],
        "Args": command[1:],
        "State": {
            "Status": state.status,
            "Running": state.up,
            "Paused": state.status == "paused",
            "Restarting": state.status == "restarting",
            "OOMKilled": state.oom_killed,
            "Dead": state.status == "dead",
            "Pid": container.pid,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": rfc3339(state.started_at),
            "FinishedAt": rfc3339(state.finished_at),
            **({"Health": container.health.shown()} if container.health is not None else {}),
        },
        "Image": container.image_id,
        "ResolvConfPath": str(directory / "resolv.conf"),
        "HostnamePath": str(directory / "hostname"),
        "HostsPath": str(directory / "hosts"),
        "LogPath": str(containers.log_path(container)) if host["LogConfig"]["Type"] == "json-file" else "",
        "Name": f"/{container.name}",
        "RestartCount": state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": containers.execs.of(container) or None,
        "HostConfig": {**shown(HOST_CONFIG, host), "Links": containers.links(container)},
        "GraphDriver": {
            "Name": "overlay2",
            "Data": {
                "UpperDir": str(directory / "upper"),
                "WorkDir": str(directory / "work"),
                "MergedDir": str(directory / "root"),
            },
        },
        "Mounts": [_mount(containers, mount) for mount in container.mounts if not mount.of_tmpfs_flag],
        "Config": shown(CONFIG, config),
        "NetworkSettings": containers.network_settings(container),
    }
    if size:
        result["SizeRw"] = await containers.size(container)
        result["SizeRootFs"] = result["SizeRw"] + containers.image_size(container)
    return result


async def summary(containers: Containers, container: Container, *, size: bool = False) -> dict[str, Any]:
    """One container of ``GET /containers/json``."""
    command = " ".join([*(container.config["Entrypoint"] or ()), *(container.config["Cmd"] or ())])
    network = containers.network_settings(container)
    result: dict[str, Any] = {
        "Id": container.id,
        "Names": containers.names(container),
        "Image": containers.image_name(container),
        "ImageID": container.image_id,
        "Command": command,
        "Created": container.created // 1_000_000_000,
        "Ports": _ports(container, network["Ports"]),
        "Labels": container.config["Labels"],
        "State": container.state.status,
        "Status": container.status_text(),
        "HostConfig": {"NetworkMode": container.host_config["NetworkMode"], **_annotations(container)},
        "NetworkSettings": {"Networks": network["Networks"]},
        "Mounts": [_mount(containers, mount) for mount in container.mounts if not mount.of_tmpfs_flag],
    }
    if size:
        result["SizeRw"] = await containers.size(container)
        result["SizeRootFs"] = result["SizeRw"] + containers.image_size(container)
    return result


def _annotations(container: Container) -> dict[str, Any]:
    return {"Annotations": container.host_config["Annotations"]} if container.host_config["Annotations"] else {}


def select(containers: Containers, filters: Filters, *, all: bool = False, limit: int = 0) -> list[Container]:
    """The containers that a list shows, newest first. Raises InvalidParameter for a filter that there is not, NotFound."""
    filters.validate(FILTERS)
    list_filters.check(filters)
    if unknown := [status for status in filters.get("status") if status not in STATUSES]:
        from coved.errors import InvalidParameter

        raise InvalidParameter(f"invalid filter 'status={unknown[0]}'")
    if unknown := [value for value in filters.get("health") if value not in health.STATUSES]:
        from coved.errors import InvalidParameter

        value, known = unknown[0], ", ".join(health.STATUSES)
        raise InvalidParameter(
            f"invalid filter 'health={value}': invalid value for health ({value}): must be one of {known}"
        )
    everything = (
        all or limit > 0 or "status" in filters or "exited" in filters or "before" in filters or "since" in filters
    )
    before = [containers.get(name).created for name in filters.get("before")]
    since = [containers.get(name).created for name in filters.get("since")]
    ancestors = {image for name in filters.get("ancestor") for image in containers.images_named(name)}
    result = [
        container
        for container in containers.all()
        if (everything or container.state.running or container.state.status == "restarting")
        and (not before or container.created < min(before))
        and (not since or container.created > max(since))
        and ("ancestor" not in filters or container.image_id in ancestors)
        and _meets(containers, container, filters)
    ]
    return result[:limit] if limit > 0 else result


def _meets(containers: Containers, container: Container, filters: Filters) -> bool:
    state = container.state

    def any_of(name: str, holds: bool) -> bool:
        return name not in filters or holds

    def named(text: str) -> bool:
        return found(text.removeprefix("/"), container.name) or found(text, f"/{container.name}")

    mounted = {place for mount in container.mounts for place in (mount.source, mount.destination)}
    networks = containers.network_settings(container)["Networks"] if "network" in filters else {}
    on = {*networks, *(one["NetworkID"] for one in networks.values())}
    published = {port if "/" in port else f"{port}/tcp" for port in container.host_config["PortBindings"]}
    ports = {*published, *(port if "/" in port else f"{port}/tcp" for port in container.config["ExposedPorts"] or ())}
    return (
        any_of("id", any(container.id.startswith(text) for text in filters.get("id")))
        and any_of("name", any(named(text) for text in filters.get("name")))
        and any_of("status", state.status in filters.get("status"))
        and any_of("exited", state.status == "exited" and str(state.exit_code) in filters.get("exited"))
        and any_of("volume", any(text in mounted for text in filters.get("volume")))
        and any_of("network", any(text in on for text in filters.get("network")))
        and any_of("health", (container.health.status if container.health else "none") in filters.get("health"))
        and any_of("is-task", not filters.flag("is-task"))
        and any_of("expose", not list_filters.ports(filters, "expose").isdisjoint(ports))
        and any_of("publish", not list_filters.ports(filters, "publish").isdisjoint(published))
        and filters.matches_labels(container.config["Labels"])
    )


def _ports(container: Container, ports: dict[str, Any] | None) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    if not container.state.running:
        return result
    for name, bindings in (ports or {}).items():
        port, _, proto = name.partition("/")
        if not bindings:
            result.append({"PrivatePort": int(port), "Type": proto})
        for binding in bindings or ():
            result.append(
                {
                    "IP": binding["HostIp"],
                    "PrivatePort": int(port),
                    "PublicPort": int(binding["HostPort"]),
                    "Type": proto,
                }
            )
    return result


def _mount(containers: Containers, mount: MountPoint) -> dict[str, Any]:
    result: dict[str, Any] = {"Type": mount.kind}
    if mount.kind == "volume":
        result.update(
            Name=mount.source, Source=containers.mount_source(mount), Destination=mount.destination, Driver="local"
        )
    else:
        result.update(Source=mount.source, Destination=mount.destination)
    result.update(Mode=mount.mode, RW=mount.writable, Propagation=mount.propagation)
    return result
