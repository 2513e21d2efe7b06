"""Ping, version, info and disk usage."""

import os
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from coved import versions
from coved.api import compat, host
from coved.api.build import describe
from coved.api.http import Request, Response, json_response
from coved.api.images import summary
from coved.api.router import Router
from coved.api.volumes import describe as describe_volume
from coved.containers import runtimes, spec
from coved.containers.logs import options as log_options
from coved.errors import InvalidParameter, NotFound
from coved.images import hub
from coved.images.platforms import architecture

if TYPE_CHECKING:
    from coved.engine import Engine

_USAGES = ("container", "image", "volume", "build-cache")


def routes(router: Router) -> None:
    router.add("GET", "/_ping", _ping)
    router.add("HEAD", "/_ping", _ping)
    router.add("GET", "/version", _version)
    router.add("GET", "/info", _info)
    router.add("GET", "/system/df", _disk_usage)


async def _ping(engine: "Engine", request: Request) -> Response:
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        # BuildKit, which the clients bring their half of along; "1" is the classic builder.
        "Builder-Version": "2",
        "Swarm": "inactive",
    }
    # dockerd answers a HEAD with Content-Length: 0.
    return Response(200, headers, b"" if request.method == "HEAD" else b"OK")


async def _version(engine: "Engine", request: Request) -> Response:
    version = engine.config.version
    kernel = os.uname().release
    details = {
        "ApiVersion": versions.text(versions.NEWEST),
        "MinAPIVersion": versions.text(versions.OLDEST),
        "Arch": architecture(),
        "BuildTime": "",
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": "",
        "KernelVersion": kernel,
        "Os": "linux",
        "PythonVersion": platform.python_version(),
    }
    return json_response(
        {
            "Platform": {"Name": "Cove"},
            "Components": [{"Name": "Engine", "Version": version, "Details": details}],
            "Version": version,
            "ApiVersion": versions.text(versions.NEWEST),
            "MinAPIVersion": versions.text(versions.OLDEST),
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": architecture(),
            "KernelVersion": kernel,
            "BuildTime": "",
        }
    )


async def _info(engine: "Engine", request: Request) -> Response:
    system = os.uname()
    counts = engine.containers.counts()
    limits = host.limits(host.cgroup_controllers())
    info: dict[str, Any] = {
        "ID": engine.identity,
        "Containers": sum(counts.values()),
        "ContainersRunning": counts["running"],
        "ContainersPaused": counts["paused"],
        "ContainersStopped": counts["stopped"],
        "Images": len(engine.images.list()),
        "Driver": "overlay2",
        "DriverStatus": host.driver_status(engine.config.root),
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": None,
            "Log": list(log_options.READABLE),
        },
        **limits,
        "IPv4Forwarding": host.ipv4_forwarding(),
        "Debug": False,
        "NFd": host.open_descriptors(),
        "OomKillDisable": False,
        "NGoroutines": 0,
        "SystemTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z",
        "LoggingDriver": log_options.DEFAULT,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2",
        "NEventsListener": engine.events.subscriber_count,
        "KernelVersion": system.release,
        "OperatingSystem": host.operating_system(),
        "OSVersion": host.os_release().get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": system.machine,
        "IndexServerAddress": hub.INDEX_SERVER,
        "RegistryConfig": engine.registries.describe(),
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": host.memory(),
        "GenericResources": None,
        "DockerRootDir": str(engine.config.root),
        **engine.outside.now.shown(),
        "Name": system.nodename,
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": engine.config.version,
        "Runtimes": runtimes.listed(),
        "DefaultRuntime": runtimes.DEFAULT,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": spec.INIT,
        # dockerd's word for what it cannot tell the version of: there is neither containerd nor runc.
        "ContainerdCommit": {"ID": "N/A"},
        "RuncCommit": {"ID": "N/A"},
        "InitCommit": {"ID": "N/A"},
        "SecurityOptions": host.security_options(userns=engine.containers.remap is not None),
        "FirewallBackend": {"Driver": "nftables"},
        "Warnings": host.warnings(limits) or None,
        "CDISpecDirs": [],
    }
    return json_response(compat.info(info, request.version))


async def _disk_usage(engine: "Engine", request: Request) -> Response:
    kinds = request.query.list("type") if request.version >= (1, 42) else []
    if unknown := [kind for kind in kinds if kind not in _USAGES]:
        raise InvalidParameter(f"unknown object type: {unknown[0]}")
    await engine.images.ready()
    wanted = kinds or _USAGES
    images, containers, volumes = (kind in wanted for kind in ("image", "container", "volume"))
    usage: dict[str, Any] = {
        "LayersSize": engine.images.layers_size() if images else 0,
        "Images": _image_usage(engine, request.version) if images else None,
        "Containers": await engine.containers.disk_usage() if containers else None,
        "Volumes": await _volume_usage(engine) if volumes else None,
        "BuildCache": [describe(one) for one in await engine.builder.upkeep.entries()]
        if "build-cache" in wanted
        else None,
    }
    return json_response(compat.disk_usage(usage, request.version))


def _image_usage(engine: "Engine", version: versions.ApiVersion) -> list[dict[str, Any]]:
    return [
        {
            **summary(engine, image, version),
            "SharedSize": engine.images.shared_size(image),
            "Containers": engine.images.containers_of(image),
        }
        for image in engine.images.list()
    ]


async def _volume_usage(engine: "Engine") -> list[dict[str, Any]]:
    usages = []
    for volume in engine.volumes.list():
        if volume.options:
            continue  # as dockerd: what they mean may lie elsewhere
        try:
            size = await engine.volumes.size(volume.name)
        except NotFound:
            continue  # removed meanwhile
        users = len(engine.volumes.users(volume.name))
        usages.append({**describe_volume(volume), "UsageData": {"Size": size, "RefCount": users}})
    return usages
