"""The networks that there are, what is known of who shall be on them, and the addresses in them."""

from __future__ import annotations

import ipaddress
import logging
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence

from coved.errors import EngineError, InvalidParameter, NotFound
from coved.networks.addresses import AddressPool, mac_of
from coved.networks.definition import Definitions, Network
from coved.networks.model import Endpoint, EndpointRequest
from coved.store.database import Database

log = logging.getLogger(__name__)

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")


class Catalog:
    """By id; of what the kernel has of them it knows nothing.

    Args:
        database: where network definitions are kept.
    """

    def __init__(self, database: Database) -> None:
        self._definitions = Definitions(database)
        self._networks: dict[str, Network] = {}
        self._pools: dict[str, AddressPool] = {}

    def load(self) -> None:
        """Takes up what the database has; first of all calls."""
        for network in self._definitions.load():
            self._remember(network)

    def __iter__(self) -> Iterator[Network]:
        return iter([*self._networks.values()])

    def __contains__(self, network_id: str) -> bool:
        return network_id in self._networks

    def __getitem__(self, network_id: str) -> Network:
        return self._networks[network_id]

    def get(self, reference: str) -> Network:
        """By name, id, or the beginning of one id. Raises NotFound, or InvalidParameter when several begin so."""
        found = self.matching(reference)
        if not found:
            raise NotFound(f"network {reference} not found")
        if len(found) > 1:
            raise InvalidParameter(f"network {reference} is ambiguous ({len(found)} matches found on ID prefix)")
        return found[0]

    def matching(self, reference: str) -> list[Network]:
        """The one of that name or id, or all whose id begins so."""
        networks = self._networks.values()
        exact = [network for network in networks if reference in (network.name, network.id)]
        if exact or not reference:
            return exact[:1]
        return [network for network in networks if network.id.startswith(reference)]

    def add(self, network: Network) -> None:
        self._definitions.add(network)
        self._remember(network)

    def remove(self, network: Network) -> None:
        """Nobody is on it any more, nor shall be."""
        self._definitions.remove(network.id)
        del self._networks[network.id], self._pools[network.id]

    def _remember(self, network: Network) -> None:
        self._networks[network.id] = network
        if network.subnet:
            reserved = [*filter(None, [network.gateway]), *network.auxiliary.values()]
            ip_range = ipaddress.IPv4Network(network.ip_range) if network.ip_range else None
            self._pools[network.id] = AddressPool(
                network.network, [ipaddress.IPv4Address(text) for text in reserved], ip_range
            )

    # -- who shall be on them beside what its creation says

    def connections(self, container_id: str) -> dict[str, EndpointRequest]:
        """By the network's id, in the order in which they were made."""
        return dict(self._definitions.connections(container_id))

    def connect(self, container_id: str, endpoint: EndpointRequest) -> None:
        """``endpoint.network`` is an id."""
        self._definitions.connect(container_id, endpoint.network, endpoint)

    def disconnect(self, container_id: str, network: Network) -> None:
        self._definitions.disconnect(container_id, network.id)

    def forget(self, container_id: str) -> None:
        self._definitions.forget(container_id)

    # -- addresses

    def allocate(self, wanted: Sequence[tuple[Network, EndpointRequest]], first_interface: int) -> tuple[Endpoint, ...]:
        """Places on these networks, all or none; the interfaces are numbered from ``first_interface``.

        Raises InvalidParameter, Forbidden, Conflict: an address cannot be had.
        """
        made: list[Endpoint] = []
        try:
            for number, (network, endpoint) in enumerate(wanted, first_interface):
                made.append(self._endpoint(network, endpoint, f"eth{number}"))
        except BaseException:
            self.release(made)
            raise
        return tuple(made)

    def take(self, endpoint: Endpoint) -> None:
        """An endpoint that is there already keeps its address."""
        try:
            self._pools[endpoint.network_id].take(endpoint.address)
        except EngineError as error:
            log.warning("address %s in network %s: %s", endpoint.address, endpoint.network_name, error)

    def release(self, endpoints: Iterable[Endpoint]) -> None:
        for endpoint in endpoints:
            if pool := self._pools.get(endpoint.network_id):
                pool.release(endpoint.address)

    def _endpoint(self, network: Network, request: EndpointRequest, interface: str) -> Endpoint:
        if request.mac_address and not _MAC.fullmatch(request.mac_address):
            raise InvalidParameter(f"invalid MAC address: {request.mac_address}")
        if request.links:
            from coved.networks import links  # rare

            for text in request.links:
                links.parse(text)
        if network.parent:
            from coved.networks import parented  # rare as well

            parented.check_endpoint(network, request)
        pool = self._pools[network.id]
        if request.ipv4_address:
            if network.name == "bridge":
                raise InvalidParameter("user specified IP address is supported on user defined networks only")
            if not network.subnet_given:
                raise InvalidParameter(
                    "user specified IP address is supported only when connecting to networks with "
                    "user configured subnets"
                )
            address = pool.take(request.ipv4_address)
        else:
            address = pool.allocate()
        made = Endpoint(
            network_id=network.id,
            network_name=network.name,
            endpoint_id=secrets.token_hex(32),
            interface=interface,
            host_interface=f"veth{secrets.token_hex(4)[:7]}",
            address=str(address),
            prefix_length=network.network.prefixlen,
            gateway="" if network.internal else network.gateway,
            mac_address=(request.mac_address or mac_of(address)).lower(),
            aliases=request.aliases,
            links=request.links if network.name != "bridge" else (),
        )
        return parented.endpoint(network, made) if network.parent else made
