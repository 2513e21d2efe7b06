"""The networks that there are, what is known of who shall be on them, and the addresses in them."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence

from coved.errors import EngineError, Forbidden, InvalidParameter, NotFound
from coved.networks import endpoints
from coved.networks.addresses import AddressPool, mac_of
from coved.networks.definition import Definitions, Network
from coved.networks.model import Endpoint, EndpointRequest
from coved.store.database import Database

log = logging.getLogger(__name__)


class Catalog:
    """By id; of what the kernel has of them it knows nothing.

    Args:
        database: where network definitions are kept.
    """

    def __init__(self, database: Database) -> None:
        self._definitions = Definitions(database)
        self._networks: dict[str, Network] = {}
        self._pools: dict[str, dict[int, AddressPool]] = {}
        """By the network's id, then by IP version."""
        self._left: dict[str, set[str]] = {}
        """Of few containers: ids and names of networks that they were created on and were taken off."""

    def load(self) -> None:
        """Takes up what the database has; first of all calls."""
        for network in self._definitions.load():
            self._remember(network)
        for container_id, reference in self._definitions.departures():
            self._left.setdefault(container_id, set()).add(reference)

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
        pools = self._pools[network.id] = {}
        for block in network.blocks:
            pool = pools[block.subnet.version] = AddressPool(block.subnet, block.ip_range)
            for text in filter(None, (block.gateway, *block.auxiliary.values())):
                with contextlib.suppress(EngineError):  # an older engine's, which gave two names to one address
                    pool.take(ipaddress.ip_address(text))

    # -- who shall be on them beside what its creation says

    def connections(self, container_id: str) -> dict[str, EndpointRequest]:
        """By the network's id, in the order in which they were made."""
        return dict(self._definitions.connections(container_id))

    def joined_and_left(self, container_id: str) -> tuple[dict[str, EndpointRequest], set[str]]:
        """As ``connections``, and ids and names of the networks that it was created on and is on no more, unless by those."""
        return self.connections(container_id), self._left.get(container_id, set())

    def connect(self, container_id: str, endpoint: EndpointRequest) -> None:
        """``endpoint.network`` is an id."""
        self._definitions.connect(container_id, endpoint.network, endpoint)

    def disconnect(self, container_id: str, network: Network, *, created_on: bool = False) -> None:
        """``created_on``: it is one of those that the container was created on, and shall not be on again."""
        if created_on:
            self._definitions.depart(container_id, network)
            self._left.setdefault(container_id, set()).update((network.id, network.name))
        self._definitions.disconnect(container_id, network.id)

    def rejoin(
        self, container_id: str, network: Network, endpoint: EndpointRequest | None, *, created_on: bool = False
    ) -> None:
        """Undoes a ``disconnect``, all of it or half: ``endpoint`` is what it was connected with after its creation, if it was."""
        if created_on:
            self._left.get(container_id, set()).difference_update((network.id, network.name))
            self._definitions.undepart(container_id, network)
        if endpoint is not None:
            self._definitions.connect(container_id, network.id, endpoint)

    def forget(self, container_id: str) -> None:
        self._definitions.forget(container_id)
        self._left.pop(container_id, None)

    # -- addresses

    def allocate(self, wanted: Sequence[tuple[Network, EndpointRequest]], first_interface: int) -> tuple[Endpoint, ...]:
        """Places on these networks, all or none; the interfaces are numbered from ``first_interface``.

        Raises InvalidParameter, Forbidden, EngineError: an address cannot be had.
        """
        made: list[Endpoint] = []
        try:
            for number, (network, endpoint) in enumerate(wanted, first_interface):
                made.append(self._endpoint(network, endpoint, f"{network.interface_prefix}{number}"))
        except BaseException:
            self.release(made)
            raise
        return tuple(made)

    def take(self, endpoint: Endpoint) -> None:
        """An endpoint that is there already keeps its addresses."""
        for text in endpoint.addresses:
            try:
                self._pools[endpoint.network_id][_version(text)].take(ipaddress.ip_address(text))
            except (EngineError, KeyError) as error:
                log.warning("address %s in network %s: %s", text, endpoint.network_name, error)

    def release(self, places: Iterable[Endpoint]) -> None:
        for endpoint in places:
            self._release(endpoint.network_id, endpoint.addresses)

    def _release(self, network_id: str, addresses: Iterable[str]) -> None:
        pools = self._pools.get(network_id, {})
        for text in addresses:
            if pool := pools.get(_version(text)):
                pool.release(ipaddress.ip_address(text))

    def _endpoint(self, network: Network, request: EndpointRequest, interface: str) -> Endpoint:
        if not endpoints.is_plain(request):
            endpoints.check(network, request)
        if network.config_only:
            raise Forbidden("cannot create endpoint on configuration-only network")
        if request.links:
            from coved.networks import links  # rare

            for text in request.links:
                links.parse(text)
        if network.parent:
            from coved.networks import parented  # rare as well

            parented.check_endpoint(network, request)
        further = endpoints.link_local(request) if request.link_local_ips else ()
        block4, block6 = network.block4, network.block6
        address = self._address(network, 4, request.ipv4_address) if block4 is not None else ""
        try:
            address6 = self._address(network, 6, request.ipv6_address) if block6 is not None else ""
        except EngineError:
            self._release(network.id, filter(None, [address]))
            raise
        made = Endpoint(
            network_id=network.id,
            network_name=network.name,
            endpoint_id=secrets.token_hex(32),
            interface=interface,
            host_interface=f"veth{secrets.token_hex(4)[:7]}",
            address=address,
            prefix_length=block4.subnet.prefixlen if block4 is not None else 0,
            gateway=block4.way_out if block4 is not None and not network.internal else "",
            mac_address=(request.mac_address or mac_of(ipaddress.ip_address(address or address6))).lower(),
            aliases=request.aliases,
            links=request.links if network.name != "bridge" else (),
            address6=address6,
            prefix_length6=block6.subnet.prefixlen if block6 is not None else 0,
            gateway6=block6.way_out if block6 is not None and not network.internal else "",
            link_local=further,
            gw_priority=request.gw_priority,
            sysctls=endpoints.sysctls(request, interface) if request.driver_opts else (),
        )
        return parented.endpoint(network, made) if network.parent else made

    def _address(self, network: Network, version: int, wanted: str) -> str:
        pool = self._pools[network.id][version]
        if wanted:
            address = ipaddress.ip_address(wanted)
            pool.take(address)
            return str(address)
        found = pool.allocate()
        if found is None:
            raise endpoints.exhausted(network, version)
        return str(found)


def _version(address: str) -> int:
    return 6 if ":" in address else 4
