"""What clients of older API versions send and expect (the Engine API's version history, 1.24 to 1.51).

Handlers speak the newest version; what differs for a client that has asked for an older one is put right here, in one
place, on the way in and on the way out. Each rule names the version from which the newer behaviour holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coved.api.query import Query
from coved.errors import InvalidParameter
from coved.versions import ApiVersion

Json = dict[str, Any]

_UNSET_IMAGE_CONFIG: Json = {
    "Hostname": "",
    "Domainname": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Image": "",
}
_UNSET_CONTAINER_CONFIG: Json = {
    **_UNSET_IMAGE_CONFIG,
    "User": "",
    "Env": None,
    "Cmd": None,
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def container_create(body: Json, version: ApiVersion) -> Json:
    """The body of ``POST /containers/create`` as the newest version means it. Raises ``InvalidParameter``."""
    _only_one_endpoint(body, version)
    host = _part(body, "HostConfig")
    if host is None:
        host = {}
        if version < (1, 41):
            body["HostConfig"] = host
    if version < (1, 40):
        # It was the daemon's choice then, and the daemon's was shareable.
        _default(host, "IpcMode", "shareable")
    if version < (1, 41):
        _default(host, "CgroupnsMode", "host")
    if version < (1, 42):
        _drop(host, "ConsoleSize")
    if version < (1, 43):
        _drop(host, "Annotations")
    if version < (1, 44):
        _drop(_part(body, "Healthcheck"), "StartInterval")
        endpoints = _part(_part(body, "NetworkingConfig") or {}, "EndpointsConfig") or {}
        for endpoint in endpoints.values():
            _drop(endpoint, "MacAddress")
    mounts = _value(host, "Mounts")
    for mount in mounts if isinstance(mounts, list) else ():
        if isinstance(mount, dict):
            _mount(mount, version)
    return body


def _only_one_endpoint(body: Json, version: ApiVersion) -> None:
    endpoints = _part(_part(body, "NetworkingConfig") or {}, "EndpointsConfig") or {}
    if version < (1, 44) and len(endpoints) > 1:
        raise InvalidParameter(
            f"Container cannot be created with multiple network endpoints: {', '.join(map(str, endpoints))}"
        )


def _mount(mount: Json, version: ApiVersion) -> None:
    kind = _value(mount, "Type")
    if version < (1, 40):
        _drop(_part(mount, "BindOptions"), "NonRecursive")
    if version < (1, 42):
        _drop(_part(mount, "BindOptions"), "CreateMountpoint")
    for option, owner in (("BindOptions", "bind"), ("VolumeOptions", "volume"), ("TmpfsOptions", "tmpfs")):
        if _value(mount, option) is not None and kind in ("bind", "volume", "tmpfs", "image") and kind != owner:
            if version >= (1, 42):
                raise InvalidParameter(f'{option} must not be specified on mount type "{kind}"')
            raise InvalidParameter(f'invalid mount config for type "{kind}": field {option} must not be specified')
    if version < (1, 44):
        for option in ("ReadOnlyNonRecursive", "ReadOnlyForceRecursive"):
            if _value(_part(mount, "BindOptions") or {}, option):
                raise InvalidParameter(f"BindOptions.{option} needs API v1.44 or newer")
    if version < (1, 45) and _value(_part(mount, "VolumeOptions") or {}, "Subpath"):
        raise InvalidParameter("VolumeOptions.Subpath needs API v1.45 or newer")
    if version < (1, 46) and _value(_part(mount, "TmpfsOptions") or {}, "Options"):
        raise InvalidParameter("TmpfsOptions.Options needs API v1.46 or newer")
    if version < (1, 48) and kind == "image":
        raise InvalidParameter("Mount type 'image' needs API v1.48 or newer")


def container_update(body: Json, version: ApiVersion) -> Json:
    """The body of ``POST /containers/{id}/update``."""
    if version < (1, 40):
        _drop(body, "PidsLimit")
    return body


def container_inspect(shown: Json, version: ApiVersion) -> Json:
    """``GET /containers/{id}/json`` as ``version`` shows it."""
    if version < (1, 25) and shown["State"]["Status"] == "removing":
        shown["State"]["Status"] = "exited"
    if version < (1, 42):
        shown["HostConfig"].update(KernelMemory=0, KernelMemoryTCP=0)
    if version < (1, 45):
        for name, endpoint in shown["NetworkSettings"]["Networks"].items():
            if name not in ("bridge", "host", "none"):
                aliases = endpoint["Aliases"] or []
                endpoint["Aliases"] = [*aliases, *({shown["Id"][:12]} - {*aliases})]
    return shown


def websocket_streams(query: Query, version: ApiVersion) -> tuple[bool, bool, bool]:
    """Whether an attach by WebSocket is to have stdin, stdout and stderr."""
    if version < (1, 42):
        return True, True, True
    return query.bool("stdin"), query.bool("stdout"), query.bool("stderr")


def websocket_text(version: ApiVersion) -> bool:
    """Whether a container's output goes out in text frames."""
    return version < (1, 28)


def container_summary(shown: Json, version: ApiVersion) -> Json:
    """One container of ``GET /containers/json``."""
    if version < (1, 25) and shown["State"] == "removing":
        shown["State"] = "exited"
    if version < (1, 46):
        shown["HostConfig"].pop("Annotations", None)
    return shown


def image_summary(shown: Json, version: ApiVersion) -> Json:
    """An image of ``GET /images/json`` and of ``GET /system/df``."""
    if version < (1, 43) and not shown["RepoTags"] and not shown["RepoDigests"]:
        shown["RepoTags"], shown["RepoDigests"] = ["<none>:<none>"], ["<none>@<none>"]
    if version < (1, 44):
        shown["VirtualSize"] = shown["Size"]
    return shown


def image_inspect(shown: Json, version: ApiVersion) -> Json:
    """``GET /images/{name}/json``."""
    if version < (1, 44):
        shown["VirtualSize"] = shown["Size"]
        shown.setdefault("Created", "0001-01-01T00:00:00Z")
    if version < (1, 45):
        shown["Container"] = ""
        shown["ContainerConfig"] = {**_UNSET_CONTAINER_CONFIG}
    if version < (1, 50):
        shown["Config"] = {**_UNSET_IMAGE_CONFIG, **shown["Config"]}
    return shown


def info(shown: Json, version: ApiVersion) -> Json:
    """``GET /info``."""
    if version < (1, 25):
        shown["ExecutionDriver"] = "<not supported>"
        shown["SecurityOptions"] = [_security_name(option) for option in shown["SecurityOptions"]]
    if version < (1, 39):
        for field in ("KernelVersion", "OperatingSystem"):
            shown[field] = shown[field] or "<unknown>"
    if version < (1, 42):
        shown.update(KernelMemory=False, KernelMemoryTCP=False)
    if version < (1, 44):
        for runtime in shown["Runtimes"].values():
            runtime.pop("status", None)
        shown.pop("CDISpecDirs", None)
    if version < (1, 49):
        shown["RegistryConfig"].update(
            AllowNondistributableArtifactsCIDRs=None, AllowNondistributableArtifactsHostnames=None
        )
        for component in ("ContainerdCommit", "RuncCommit", "InitCommit"):
            shown[component] = {**shown[component], "Expected": shown[component]["ID"]}
        shown.pop("FirewallBackend", None)
    if version < (1, 50):
        shown.update(BridgeNfIptables=False, BridgeNfIp6tables=False)
        shown.pop("DiscoveredDevices", None)
    return shown


def _security_name(option: str) -> str:
    """``name=seccomp,profile=builtin`` was just ``seccomp``."""
    return option.partition(",")[0].removeprefix("name=")


def disk_usage(shown: Json, version: ApiVersion) -> Json:
    """``GET /system/df``."""
    if version < (1, 42):
        shown["BuilderSize"] = sum(one["Size"] for one in shown.get("BuildCache") or ())
    return shown


def wait_condition(asked: str, version: ApiVersion) -> str:
    """Before 1.30 a wait was always for a container that does not run."""
    return (asked or "not-running") if version >= (1, 30) else "not-running"


def stop_signal(asked: str, version: ApiVersion) -> str:
    """``signal`` of a stop and a restart came with 1.42."""
    return asked if version >= (1, 42) else ""


# -- Go's decoder finds fields without regard to case, so that this must, too


def _key(object: Mapping[str, Any], name: str) -> str:
    if name in object:
        return name
    folded = name.lower()
    return next((key for key in object if key.lower() == folded), name)


def _value(object: Mapping[str, Any], name: str) -> Any:
    return object.get(_key(object, name))


def _part(object: Mapping[str, Any], name: str) -> Json | None:
    value = _value(object, name)
    return value if isinstance(value, dict) else None


def _drop(object: Any, name: str) -> None:
    if isinstance(object, dict):
        object.pop(_key(object, name), None)


def _default(object: Json, name: str, value: str) -> None:
    if not _value(object, name):
        object[_key(object, name)] = value
