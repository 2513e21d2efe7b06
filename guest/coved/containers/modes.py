"""Which namespaces a container shares: with the machine (``host``), with another container (``container:<id>``), with nobody.

Checks and words are dockerd's: what a request says is looked at when the container is created, and what it needs of other
containers again at every start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from coved.containers.config_schema import Json
from coved.errors import Conflict, EngineError, InvalidParameter, NotFound


class Other(Protocol):
    """A container whose namespaces are to be joined. ``pid``: of its first process on this machine; 0 when it does not run."""

    @property
    def id(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def host_config(self) -> Json: ...


Lookup = Callable[[str], Other]
"""By name or id. Raises NotFound."""

_CONTAINER = "container:"
# HostConfig's field, what dockerd calls it, and the words that it knows besides container:<id>.
_MODES = (
    ("IpcMode", "IPC", ("", "none", "private", "shareable", "host")),
    ("PidMode", "PID", ("", "private", "host")),
    ("UTSMode", "UTS", ("", "private", "host")),
    ("UsernsMode", "user namespace", ("", "host")),
    ("CgroupnsMode", "cgroup namespace", ("", "private", "host")),
)


def check(config: Json, host: Json) -> None:
    """What a create request says of namespaces, before the image adds its own fields. Raises InvalidParameter."""
    _check_network(config, host)
    if host["UTSMode"] == "host" and config["Hostname"]:
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    for field, name, known in _MODES:
        joins = field in ("IpcMode", "PidMode") and host[field].startswith(_CONTAINER)
        if (field == "PidMode" and host[field] == _CONTAINER) or not (joins or host[field] in known):
            raise InvalidParameter(f"invalid {name} mode: {host[field]}")


def _check_network(config: Json, host: Json) -> None:
    mode = host["NetworkMode"]
    if mode == "host" and host["Links"]:
        raise InvalidParameter(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
        )
    if mode.partition(":")[0] != "container":
        return
    if not mode.partition(":")[2]:
        raise InvalidParameter("Invalid network mode: invalid container format container:<name|id>")
    for conflicts, words in (
        (config["Hostname"], "hostname and the network mode"),
        (
            host["Links"],
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (host["Dns"], "dns and the network mode"),
        (host["ExtraHosts"], "custom host-to-IP mapping and the network mode"),
        (config["MacAddress"], "mac-address and the network mode"),
        (host["PortBindings"] or host["PublishAllPorts"], "port publishing and the container type network mode"),
        (config["ExposedPorts"], "port exposing and the container type network mode"),
    ):
        if conflicts:
            raise InvalidParameter(f"conflicting options: {words}")


def warnings(host: Json) -> list[str]:
    """What a create answers with, though it succeeds."""
    if host["NetworkMode"] == "host" and host["PortBindings"]:
        return ["Published ports are discarded when using host network mode"]
    return []


def settle(host: Json, lookup: Lookup) -> None:
    """Write the ids of other containers for their names, which may change. Raises InvalidParameter: there is no such container."""
    for field in ("PidMode", "IpcMode", "NetworkMode"):
        reference = host[field].removeprefix(_CONTAINER)
        if not host[field].startswith(_CONTAINER) or not reference:
            continue
        try:
            host[field] = _CONTAINER + lookup(reference).id
        except NotFound as error:
            if field != "NetworkMode":  # that is looked up at the start
                raise InvalidParameter(str(error)) from None


def settled_network(mode: str, lookup: Lookup) -> str:
    """A network mode with a container's id for its name, if there is such a container."""
    host = {"NetworkMode": mode, "PidMode": "", "IpcMode": ""}
    settle(host, lookup)
    return host["NetworkMode"]


def network(host: Json, lookup: Lookup) -> str:
    """NetworkMode, a joined container checked. Raises NotFound, Conflict when it does not run."""
    mode: str = host["NetworkMode"]
    if not mode.startswith(_CONTAINER):
        return mode
    other = lookup(mode.removeprefix(_CONTAINER))
    if not other.pid:
        raise Conflict(f"cannot join network of a non running container: {other.id}")
    return _CONTAINER + other.id


def joined(host: Json, lookup: Lookup) -> dict[str, str]:
    """Paths of the namespaces of other containers to join, by type; ``shm`` is the mount namespace that has the /dev/shm.

    Raises EngineError in dockerd's words.
    """
    result = {}
    for kind, field in (("pid", "PidMode"), ("ipc", "IpcMode")):
        if not host[field].startswith(_CONTAINER):
            continue
        failed = f"failed to join {kind.upper()} namespace: "
        reference = host[field].removeprefix(_CONTAINER)
        if not reference:
            raise InvalidParameter(f'{failed}invalid name or ID supplied: ""')
        other = lookup(reference)
        if not other.pid:
            raise EngineError(f"{failed}container {other.id} is not running")
        if kind == "ipc" and other.host_config["IpcMode"] != "shareable":
            raise InvalidParameter(
                f"{failed}container {other.id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            )
        result[kind] = f"/proc/{other.pid}/ns/{kind}"
        if kind == "ipc":
            result["shm"] = f"/proc/{other.pid}/ns/mnt"
    return result
