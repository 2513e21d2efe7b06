"""The networks domain: what networks there are. Who is on them is in ``coved.networks.sandboxes``."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import hashlib
import ipaddress
import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from coved.errors import Conflict, EngineError, Forbidden, InvalidParameter, NotFound
from coved.events import Events
from coved.filters import Filters
from coved.finishing import to_the_end
from coved.link.client import LinkClient
from coved.names.keeping import Keeper
from coved.networks import create, parented, views
from coved.networks.addresses import Pools, Subnet, default_gateway, free_subnet, local_pools
from coved.networks.catalog import Catalog
from coved.networks.definition import PREDEFINED, Network
from coved.networks.kernel import Kernel
from coved.networks.publishers import LinkPublisher, LocalPublisher, PortPublisher
from coved.networks.records import Record
from coved.networks.sandboxes import Sandboxes
from coved.store.database import Database

log = logging.getLogger(__name__)

LAPTOP = "10.0.2.2"
"""The host, as QEMU's user networking shows it to the VM."""
TABLE = "cove"
"""The VM's packet rules; elsewhere more follows, for several engines may run beside each other."""
UPLINK = "eth0"
"""The VM's only network device, by which all published ports are reached where its hypervisor forwards them."""
INSIDE = "lo"
"""By which they are where it does not: the host comes by streams (`coved.streams.inside`), and nobody else by the network."""
UPLINK_SUBNET = ipaddress.ip_network("10.0.2.0/24")
"""The network that it is in, with the laptop and the resolver."""
LIST_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
PRUNE_FILTERS = frozenset({"label", "label!", "until"})


class Networks:
    """Creates, lists and removes networks; ``sandboxes`` are the containers' places on them.

    Args:
        database: where network definitions are kept.
        events: told of create and destroy, and by the sandboxes of connect and disconnect.
        state: directory that does not outlive a boot; ``netns/`` and ``sandboxes/`` are made in it.
        link: the way to the host that binds published ports; None binds them on this machine.
        keeper: keeps the sockets of containers' DNS servers for the next engine.
        beside: the engine's name on a host that others use as well, though there is a link; "" elsewhere.
    """

    def __init__(
        self,
        database: Database,
        events: Events,
        state: Path,
        link: LinkClient | None = None,
        keeper: Keeper | None = None,
        beside: str = "",
    ) -> None:
        self._events = events
        self._namespaces = state / "netns"
        self._beside = beside
        own = beside or hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]
        self._table = TABLE if link and not beside else f"{TABLE}-{own}"
        self._uplink = _way_in(link)
        self._changing = asyncio.Lock()
        self._dropping: dict[str, tuple[Network, asyncio.Task[None]]] = {}
        """By bridge: networks that are no more, whose bridges the kernel has not taken down yet."""
        self._catalog = Catalog(database)
        self._kernel = Kernel()
        self._publisher: PortPublisher
        if link is not None:
            self._publisher = LinkPublisher(link, self._uplink)
            link.live_ports = self._publisher.live_ports
            link.on_lost = self._publisher.set_lost
        else:
            self._publisher = LocalPublisher()
        self.sandboxes = Sandboxes(
            self._catalog, self._kernel, self._publisher, events, state, "" if beside else _laptop(link), keeper
        )

    # -- life of the engine

    async def start(self, running: Collection[str]) -> None:
        """Takes up the sandboxes of the containers ``running`` (ids), and removes what belongs to no container.

        Must have returned before any sandbox is opened.

        Raises:
            EngineError: the machine cannot do container networking; the text says what is missing.
        """
        await self._kernel.open(self._namespaces, self._table, self._uplink, bool(self._beside))
        self._catalog.load()
        await self._add_predefined()
        await self.sandboxes.adopt(running)

    async def close(self) -> None:
        """Lets go of threads and sockets. Sandboxes stay as they are, for the next engine."""
        await asyncio.gather(*(task for _, task in self._dropping.values()))
        await self.sandboxes.release()
        await self._kernel.close()
        self._publisher.close()

    # -- networks

    def inspect(self, reference: str) -> dict[str, Any]:
        return views.network_json(self._catalog.get(reference), self.sandboxes)

    def list(self, filters: Filters) -> builtins.list[dict[str, Any]]:
        """All networks that meet the filters, as the API lists them (without containers)."""
        filters.validate(LIST_FILTERS)
        if wrong := [kind for kind in filters.get("type") if kind not in ("builtin", "custom")]:
            raise InvalidParameter(f"invalid filter: 'type'='{wrong[0]}'")
        return [views.network_json(network, None) for network in self._catalog if self._meets(network, filters)]

    async def create(self, config: dict[str, Any]) -> str:
        """Makes a network from a NetworkCreateRequest, and gives its id.

        Raises:
            Conflict: the name is taken. InvalidParameter, Forbidden, NotFound: the request cannot be met.
        """
        async with self._changing:
            going = [
                network for network, _ in self._dropping.values()
            ]  # before: one that goes meanwhile is still there
            foreign, devices = await self._kernel.run(self._kernel.datapath.surroundings)
            devices -= {network.bridge for network in going}
            prefix = f"{TABLE}-" if self._beside else "br-"
            network = create.definition(config, [*self._catalog], foreign, devices, self._pools6(), prefix)
            if any(other.name == network.name for other in self._catalog):
                raise Conflict(f"network with name {network.name} already exists")
            if network.parent:
                parented.check_shared(network, self._catalog)
            elif self._uplink == UPLINK:
                create.spare(network, UPLINK_SUBNET)
            if network.bridge in self._dropping:
                await asyncio.wait({self._dropping[network.bridge][1]})
            try:
                if not network.config_only:
                    await self._kernel.run(self._kernel.datapath.add_network, network)
                self._catalog.add(network)
            except BaseException:
                if not network.config_only:
                    await to_the_end(self._take_back(network))
                raise
        self._event("create", network)
        return network.id

    async def remove(self, reference: str) -> None:
        """Raises Forbidden for a predefined network, and for one that a container is on."""
        async with self._changing:
            network = self._catalog.get(reference)
            if network.name in PREDEFINED:
                raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
            if network.config_only and any(other.config_from == network.name for other in self._catalog):
                raise Forbidden(f'error while removing network: configuration network "{network.name}" is in use')
            if users := self.sandboxes.users(network):
                raise Forbidden(
                    f"error while removing network: network {network.name} has active endpoints ({_named(network, users)})"
                )
            self._catalog.remove(network)
            if network.config_only:
                return
            try:
                await self._kernel.run(self._kernel.datapath.remove_network, network)
            finally:
                await self._drop(network)
        self._event("destroy", network)

    async def prune(self, filters: Filters, before_ns: int | None) -> builtins.list[str]:
        """Removes networks that nothing is on, and gives their names.

        Args:
            before_ns: only those created before, in nanoseconds since the epoch.
        """
        filters.validate(PRUNE_FILTERS)
        removed = []
        for network in self._catalog:
            used = network.name in PREDEFINED or network.config_only or self.sandboxes.users(network)
            late = before_ns is not None and network.created_ns >= before_ns
            if not used and not late and filters.matches_labels(network.labels):
                with contextlib.suppress(Forbidden, NotFound):  # somebody has joined it meanwhile, or removed it
                    await self.remove(network.id)
                    removed.append(network.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    # -- inside

    def _pools6(self) -> Pools:
        return local_pools(self._catalog.get("bridge").id)

    async def _take_back(self, network: Network) -> None:
        """One that was asked of the kernel, which may have made it, or all but."""
        with contextlib.suppress(EngineError):
            await self._kernel.run(self._kernel.datapath.remove_network, network)
        await self._drop(network)

    async def _drop(self, network: Network) -> None:
        if network.bridge:
            self._drop_bridge(network)
        elif not any(other.parent == network.parent for other in self._catalog):
            await self._kernel.run(self._kernel.datapath.parents.drop, network.parent)

    def _drop_bridge(self, network: Network) -> None:
        """Not waited for: the kernel takes its time. Its name and its subnets are free at once."""

        async def drop() -> None:
            try:
                await self._kernel.drop_bridge(network.bridge)
            except (EngineError, OSError) as error:
                # Its file is still there, so the next start of the engine tries again.
                log.warning("the bridge %s of network %s stays for now: %s", network.bridge, network.name, error)

        task = asyncio.get_running_loop().create_task(drop())
        self._dropping[network.bridge] = network, task
        task.add_done_callback(lambda done: self._dropping.pop(network.bridge))

    async def _add_predefined(self) -> None:
        before = next((network for network in self._catalog if network.name == "bridge"), None)
        if before is None or self._beside:
            taken, devices = await self._kernel.run(self._kernel.datapath.surroundings)
            if before is None:
                self._catalog.add(self._default(create.predefined("bridge", "bridge"), taken, devices))
            elif before.bridge not in devices and any(
                one.version == 4 and one.overlaps(ipaddress.IPv4Network(before.subnet)) for one in taken
            ):
                # Another program of the host took it while this engine did not run; no container is on it yet.
                self._catalog.remove(before)
                self._catalog.add(self._default(before, taken, devices))
        names = {network.name for network in self._catalog}
        for name, driver in (("host", "host"), ("none", "null")):
            if name not in names:
                self._catalog.add(create.predefined(name, driver))

    def _default(self, network: Network, taken: Collection[Subnet], devices: Collection[str]) -> Network:
        """``network`` on a bridge and a subnet that nobody has."""
        subnet = free_subnet(taken)
        if (
            self._beside
        ):  # also no engine's that does not run now; and a dockerd that comes later would take docker0 for its own
            bridge = f"{TABLE}-{self._beside}"[: create.LONGEST]
        else:
            bridge = next(name for name in ("docker0", *(f"{TABLE}{n}" for n in range(1000))) if name not in devices)
        return replace(
            network,
            bridge=bridge,
            subnet=str(subnet),
            gateway=str(subnet.network_address + 1),
            options={**views.DRIVER_OPTIONS, "com.docker.network.bridge.name": bridge},
        )

    def _meets(self, network: Network, filters: Filters) -> bool:
        kind = "builtin" if network.name in PREDEFINED else "custom"
        used = bool(self.sandboxes.users(network)) or kind == "builtin"
        wanted = filters.get
        return (
            (not wanted("driver") or network.driver in wanted("driver"))
            and filters.found_in("id", network.id)
            and filters.found_in("name", network.name)
            and (not wanted("scope") or network.scope in wanted("scope"))
            and (not wanted("type") or kind in wanted("type"))
            and ("dangling" not in filters or filters.flag("dangling") is not used)
            and filters.matches_labels(network.labels)
        )

    def _event(self, action: str, network: Network) -> None:
        self._events.publish("network", action, network.id, network.event_attributes())


def _way_in(link: LinkClient | None) -> str:
    """The device by which published ports are reached; "" is any."""
    if link is None:
        return ""
    return UPLINK if link.has_port else INSIDE


def _laptop(link: LinkClient | None) -> str:
    """The host's address, "" for none: elsewhere than on QEMU it is the one that leads out (Hyper-V's Default Switch)."""
    if link is None:
        return ""
    return LAPTOP if link.has_port else default_gateway() or LAPTOP


def _named(network: Network, users: Collection[Record]) -> str:
    """Who is on a network, as dockerd says it."""
    return ", ".join(
        f'name:"{record.container_name}" id:"{endpoint.endpoint_id[:12]}"'
        for record in users
        for endpoint in record.endpoints
        if endpoint.network_id == network.id
    )
