"""What links are for the containers that have them: variables, lines in /etc/hosts, and what keeps them from starting.

Words, and which variables there are, are dockerd's (Docker documentation, "Legacy container links").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coved.containers import config, etc_files
from coved.containers.config_schema import Json
from coved.containers.links import Link
from coved.containers.registry import Registry
from coved.errors import EngineError, InvalidParameter, NotFound
from coved.networks import Networks

if TYPE_CHECKING:
    from coved.containers.container import Container

DEFAULT = ("default", "bridge")
_HIDDEN = ("HOME", "PATH")
"""Variables of the target that say nothing about it."""


class Linked:
    """Args: hosts_file: where a container's /etc/hosts lies on this machine."""

    def __init__(self, registry: Registry, networks: Networks, hosts_file: Callable[[Container], Path]) -> None:
        self._registry = registry
        self._networks = networks
        self._hosts_file = hosts_file

    # -- creation

    def requested(self, host: Json) -> dict[str, Link]:
        """The links of a create request, by alias; of two with one alias the first counts.

        Raises InvalidParameter and EngineError in dockerd's words. On networks of users a link is the endpoint's.
        """
        if not host["Links"] or not _legacy(host["NetworkMode"]):
            return {}
        from coved.networks import links

        result: dict[str, Link] = {}
        for text in host["Links"]:
            name, alias = links.parse(text)
            if not name:
                raise InvalidParameter('could not get container for : invalid name or ID supplied: ""')
            target = self._target(name, "could")
            seen = {target.id}
            while target.host_config["NetworkMode"].startswith("container:"):
                target = self._target(target.host_config["NetworkMode"].partition(":")[2], "Could")
                if target.id in seen:
                    break
                seen.add(target.id)
            if target.host_config["NetworkMode"] == "host":
                raise InvalidParameter(
                    "conflicting options: host type networking can't be used with links."
                    " This would result in undefined behavior"
                )
            if alias:
                result.setdefault(alias, Link(target.id, target.name))
        return result

    def _target(self, name: str, could: str) -> Container:
        try:
            return self._registry.get(name)
        except NotFound as error:
            raise InvalidParameter(f"{could} not get container for {name}: {error}") from None

    # -- start

    def environment(self, container: Container) -> list[str]:
        """The variables that tell a process of ``container`` about what it is linked to.

        Raises EngineError: one of those cannot be reached.
        """
        links = self._registry.links.of(container.id)
        if not links or container.host_config["NetworkMode"] not in DEFAULT:
            return []
        for link in links.values():
            target = self._registry.find(link.target_id)
            if target is not None and "bridge" not in self._networks_of(target):
                raise EngineError(f"Cannot link to /{link.target_name}, as it does not belong to the default network")
        result: list[str] = []
        for alias, link in links.items():
            target = self._registry.find(link.target_id)
            name = f"/{container.name}/{alias}"
            if target is None or not target.state.running:
                raise EngineError(f"Cannot link to a non running container: /{link.target_name} AS {name}")
            address = self._networks.sandboxes.address(target.id, "bridge")
            result += variables(name, address, target.config["ExposedPorts"] or (), target.config["Env"])
        return result

    def hosts(self, container: Container) -> tuple[tuple[str, str], ...]:
        """Id of each container that ``container`` is linked to, and the names that /etc/hosts gives it."""
        if container.host_config["NetworkMode"] not in DEFAULT:
            return ()
        result = []
        for alias, link in self._registry.links.of(container.id).items():
            if (target := self._registry.find(link.target_id)) is not None:
                alias = alias.rpartition("/")[2]
                names = (alias, target.config["Hostname"], target.name if target.name != alias else "")
                result.append((target.id, " ".join(filter(None, names))))
        return tuple(result)

    def _networks_of(self, container: Container) -> Mapping[str, object]:
        request = config.sandbox_request(container.name, container.request, container.host_config["NetworkMode"])
        networks: Mapping[str, object] = self._networks.sandboxes.settings(container.id, request)["Networks"]
        return networks

    # -- afterwards

    def remove(self, name: str) -> None:
        """Takes away the link that gives a container the name ``container/alias``. Raises NotFound, EngineError."""
        self._registry.get(name)
        parent, slash, alias = name.removeprefix("/").partition("/")
        if not slash:
            raise EngineError("Conflict, cannot remove the default link name of the container")
        container = self._registry.get(parent)
        self._registry.links.remove(container.id, alias)
        self._write(container, {alias.rpartition("/")[2]: ""})

    def refresh_hosts(self, container_id: str) -> None:
        """A container has another address, or none: whoever is linked to it by /etc/hosts is to see that.

        One that has stopped keeps its lines, as in dockerd.
        """
        address = self._networks.sandboxes.address(container_id, "bridge")
        for parent_id, alias in self._registry.links.to(container_id) if address else ():
            parent = self._registry.find(parent_id)
            if parent is not None and parent.host_config["NetworkMode"] in DEFAULT:
                self._write(parent, {alias.rpartition("/")[2]: address})

    def _write(self, container: Container, addresses: Mapping[str, str]) -> None:
        if not container.state.running and not container.starting:
            return  # its start writes the file anew
        from coved.networks import links

        given = {entry.partition(":")[0] for entry in container.host_config["ExtraHosts"] or ()}
        wanted = {name: address for name, address in addresses.items() if name not in given}
        etc_files.change(container, self._hosts_file(container), lambda text: links.changed(text, wanted))


def _legacy(mode: str) -> bool:
    return mode in (*DEFAULT, "host", "none") or mode.startswith("container:")


def shown(container: Container, links: Mapping[str, Link]) -> list[str] | None:
    """``HostConfig.Links`` of an inspect."""
    return [f"/{link.target_name}:/{container.name}/{alias}" for alias, link in links.items()] or None


def variables(name: str, address: str, exposed: Sequence[str] | Mapping[str, object], env: Sequence[str]) -> list[str]:
    """The variables about one link.

    Args:
        name: ``/container/alias``.
        exposed: the target's exposed ports, such as ``80/tcp``.
        env: the target's own variables.
    """
    prefix = name.rpartition("/")[2].upper().replace("-", "_")
    ports = sorted({config.parse_port(text) for text in exposed}, key=lambda port: (port[1] != "tcp", port[1], port[0]))
    result = []
    if ports:
        number, proto = min(ports, key=lambda port: (port[0], port[1] != "tcp"))
        result.append(f"{prefix}_PORT={proto}://{address}:{number}")
    for run in _runs(ports):
        (first, proto), (last, _) = run[0], run[-1]
        if len(run) > 2:
            base = f"{prefix}_PORT_{first}_{proto.upper()}"
            result += [
                f"{base}_START={proto}://{address}:{first}",
                f"{base}_PORT_START={first}",
                f"{base}_END={proto}://{address}:{last}",
                f"{base}_PORT_END={last}",
            ]
    for number, proto in ports:
        base = f"{prefix}_PORT_{number}_{proto.upper()}"
        result += [f"{base}={proto}://{address}:{number}", f"{base}_ADDR={address}"]
        result += [f"{base}_PORT={number}", f"{base}_PROTO={proto}"]
    result.append(f"{prefix}_NAME={name}")
    for entry in env:
        key, equals, _ = entry.partition("=")
        if equals and key not in _HIDDEN:
            result.append(f"{prefix}_ENV_{entry}")
    return result


def _runs(ports: Sequence[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    """Ports of one protocol whose numbers follow each other, together."""
    runs: list[list[tuple[int, str]]] = []
    for port in ports:
        if runs and runs[-1][-1] == (port[0] - 1, port[1]):
            runs[-1].append(port)
        else:
            runs.append([port])
    return runs
