"""The networks that a container shall be on: those of its creation, but those that it has left, and those that it has joined."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from coved.errors import InvalidParameter
from coved.networks.catalog import Catalog
from coved.networks.definition import Network
from coved.networks.model import EndpointRequest, SandboxRequest


def created_on(catalog: Catalog, request: SandboxRequest | None, left: Set[str]) -> dict[str, EndpointRequest]:
    """What a container's creation asks of networks, all but those that it has left, by their ids (or names, of what is not
    there); the mode's own is first."""
    if request is None or request.mode in ("host", "none") or request.mode.startswith("container:"):
        return {}
    asked: dict[str, EndpointRequest] = {}
    own = "bridge" if request.mode == "default" else request.mode
    for endpoint in (EndpointRequest(own), *request.endpoints):
        network = next(iter(catalog.matching(endpoint.network)), None)
        words = {endpoint.network, *((network.id, network.name) if network is not None else ())}
        if not words & left:
            asked[network.id if network is not None else endpoint.network] = endpoint
    return asked


def wanted(catalog: Catalog, container_id: str, request: SandboxRequest) -> list[tuple[Network, EndpointRequest]]:
    """The networks to be on; the mode's own is first, unless the container was taken off it.

    Raises:
        NotFound: one does not exist.
        InvalidParameter: a container of this mode cannot be on one of them, or several begin as one is called.
    """
    joined, left = catalog.joined_and_left(container_id)
    found: dict[str, tuple[Network, EndpointRequest]] = {}
    for key, endpoint in {**created_on(catalog, request, left), **joined}.items():
        network = catalog.get(key)
        check_mode(network, request.mode)
        found[network.id] = (network, endpoint)
    networks = list(found.values())
    if request.mac_address and networks and not networks[0][1].mac_address:
        first, endpoint = networks[0]
        networks[0] = (first, replace(endpoint, mac_address=request.mac_address))
    return networks


def by_name(catalog: Catalog, container_id: str, request: SandboxRequest | None) -> dict[str, EndpointRequest]:
    """What was asked for of each network, by its name."""
    asked: dict[str, EndpointRequest] = {}
    joined, left = catalog.joined_and_left(container_id)
    if request is not None and request.mode in ("host", "none"):
        asked[request.mode] = EndpointRequest(request.mode)
    elif request is not None and not request.mode.startswith("container:"):
        for key, endpoint in {**created_on(catalog, request, left), **joined}.items():
            network = next(iter(catalog.matching(key)), None)
            asked[network.name if network is not None else key] = endpoint
    return asked


def check_mode(network: Network, mode: str) -> None:
    """Raises InvalidParameter when a container of this network mode cannot be on the network as well as on others."""
    if network.driver == "host":
        raise InvalidParameter(
            "cannot connect container to host network - container must be created in host network mode"
        )
    if mode == "host" or mode.startswith("container:"):
        raise InvalidParameter(
            "container sharing network namespace with another container or host cannot be connected to any other network"
        )
    if mode == "none" or (network.driver == "null" and not network.config_only):
        raise InvalidParameter(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
