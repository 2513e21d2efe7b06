"""The networks domain: networks, the sandboxes of containers, and published ports."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import hashlib
import ipaddress
import logging
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from coved.errors import Conflict, EngineError, Forbidden, InvalidParameter, NotFound
from coved.events import Events
from coved.filters import Filters
from coved.finishing import to_the_end
from coved.link.client import LinkClient
from coved.networks import create, resolver, views
from coved.networks.addresses import AddressPool, free_subnet, mac_of
from coved.networks.datapath import Datapath
from coved.networks.definition import PREDEFINED, Definitions, Network
from coved.networks.firewall import PortRule
from coved.networks.model import Endpoint, EndpointRequest, Sandbox, SandboxRequest, Settings
from coved.networks.publishers import LinkPublisher, LocalPublisher, PortPublisher, PublishError
from coved.networks.records import Record, Records
from coved.networks.turns import Turns
from coved.store.database import Database

log = logging.getLogger(__name__)

T = TypeVar("T")

LAPTOP = "10.0.2.2"
"""The host, as QEMU's user networking shows it to the VM."""
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
LIST_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
PRUNE_FILTERS = frozenset({"label", "label!", "until"})


class Networks:
    """Creates and removes networks, and opens and closes the sandboxes of containers.

    Args:
        database: where network definitions are kept.
        events: told of create, connect, disconnect and destroy.
        state: directory that does not outlive a boot; ``netns/`` and ``sandboxes/`` are made in it.
        link: the way to the host that binds published ports; None binds them on this machine.
    """

    def __init__(self, database: Database, events: Events, state: Path, link: LinkClient | None = None) -> None:
        self._definitions = Definitions(database)
        self._events = events
        self._records = Records(state / "sandboxes")
        self._namespaces = state / "netns"
        # In the VM there is one engine; elsewhere several may run beside each other.
        self._table = "cove" if link else f"cove-{hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:8]}"
        self._networks: dict[str, Network] = {}
        self._pools: dict[str, AddressPool] = {}
        self._open: dict[str, Record] = {}
        self._changing = asyncio.Lock()
        self._turns = Turns()
        # The kernel's calls block, and a thread that visits another namespace must do nothing else meanwhile.
        self._thread = ThreadPoolExecutor(1, "networks")
        self._datapath: Datapath | None = None
        self._host_gateway = LAPTOP if link else ""
        self.on_change: Callable[[str, Iterable[str]], None] = lambda container_id, lost: None
        """Told of a container that has joined or left networks, or has another name, and of the names for others that it
        has lost; it MUST NOT raise."""
        self._publisher: PortPublisher
        if link is not None:
            self._publisher = LinkPublisher(link)
            link.live_ports = self._publisher.live_ports
        else:
            self._publisher = LocalPublisher()

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self, running: Collection[str]) -> None:
        """Takes up the sandboxes of the containers ``running`` (ids), and removes what belongs to no container.

        Must have returned before any sandbox is opened.

        Raises:
            EngineError: the machine cannot do container networking; the text says what is missing.
        """
        try:
            self._datapath = await self._run(Datapath, self._namespaces, self._table)
        except OSError as error:
            raise EngineError(f"cannot set up container networking: {error}; it needs root") from None
        for network in self._definitions.load():
            self._remember(network)
        await self._add_predefined()
        stale = []
        for record in self._records.load():
            known = all(endpoint.network_id in self._networks for endpoint in record.endpoints)
            alive = not record.has_namespace or await self._run(self._kernel.has_namespace, record.container_id)
            if record.container_id in running and known and alive:
                self._adopt(record)
            else:
                stale.append(record)
        keep = {endpoint.host_interface: endpoint for record in self._open.values() for endpoint in record.endpoints}
        rules = [rule for record in self._open.values() for rule in self._rules(record)]
        bridges = [network for network in self._networks.values() if network.bridge]
        await self._run(self._kernel.start, bridges, keep, rules)
        await self._run(self._kernel.remove_namespaces_except, set(self._open))
        for record in stale:
            self._records.remove(record.container_id)
            self.on_change(record.container_id, ())

    async def close(self) -> None:
        """Lets go of threads and sockets. Sandboxes stay as they are, for the next engine."""
        if self._datapath is not None:
            await self._run(self._datapath.close)
            self._datapath = None
        self._publisher.close()
        self._thread.shutdown()

    # -- sandboxes ----------------------------------------------------------------------------------------------------

    async def open_sandbox(self, container_id: str, request: SandboxRequest) -> Sandbox:
        """Makes the network of a container that is about to start; its published ports answer when this returns.

        Raises:
            NotFound: a network does not exist.
            InvalidParameter, Forbidden, Conflict: an address cannot be had.
            EngineError: Docker's "driver failed programming external connectivity ..." when a port cannot be bound.
        """
        async with self._turns.of(container_id):
            return await self._open_sandbox(container_id, request)

    async def _open_sandbox(self, container_id: str, request: SandboxRequest) -> Sandbox:
        if (left := self._open.get(container_id)) is not None:
            await to_the_end(self._tear_down(left, events=True))
        mode = request.mode
        if mode.startswith("container:"):
            other = self._open.get(mode.removeprefix("container:"))
            if other is None:
                raise Conflict(f"cannot join network of a non running container: {mode.removeprefix('container:')}")
            record = Record(container_id, request.container_name, mode)
            self._records.save(record)
            self._open[container_id] = record
            return self._sandbox(record, request)
        if mode in ("host", "none"):
            record = Record(container_id, request.container_name, mode, exposed=request.exposed)
        else:
            endpoints = self._allocate(request, self._wanted(container_id, request))
            name, hostname = request.container_name, request.hostname
            record = Record(container_id, name, "bridge", endpoints, (), request.exposed, hostname)
        self._open[container_id] = record
        try:
            await self._build(record, request)
        except BaseException:
            # Whoever is cancelled must not leave half a network behind, nor give up the turn before it is gone.
            with contextlib.suppress(asyncio.CancelledError):
                await to_the_end(self._tear_down(self._open[container_id], events=False))
            raise
        record = self._open[container_id]
        for endpoint in record.endpoints:
            self._event("connect", endpoint.network_id, container_id)
        self.on_change(container_id, ())
        return self._sandbox(record, request)

    async def close_sandbox(self, container_id: str) -> None:
        """Releases ports, addresses and the namespace; does nothing when no sandbox is open.

        Does as much as it can; what fails is logged, and tried again by the next start of the container or the engine.
        """
        async with self._turns.of(container_id):
            if (record := self._open.get(container_id)) is not None:
                await to_the_end(self._tear_down(record, events=True))

    def settings(self, container_id: str, request: SandboxRequest | None = None) -> Settings:
        """NetworkSettings of a container; ``request`` is what it was created with."""
        wanted = self._asked_for(container_id, request)
        record = self._open.get(container_id)
        if record is not None:
            key = str(self._namespaces / container_id) if record.has_namespace else ""
            return views.settings_json(record, key, "bridge", wanted)
        return views.closed_settings_json(request, wanted)

    def _asked_for(self, container_id: str, request: SandboxRequest | None) -> dict[str, EndpointRequest]:
        """What was asked for of each network, by its name."""
        wanted: dict[str, EndpointRequest] = {}
        if request is not None and not request.mode.startswith("container:"):
            if request.mode in ("host", "none"):
                wanted[request.mode] = EndpointRequest(request.mode)
            else:
                own = "bridge" if request.mode == "default" else request.mode
                for endpoint in (EndpointRequest(own), *request.endpoints, *self._connections(container_id)):
                    name = next((n.name for n in self._matching(endpoint.network)), endpoint.network)
                    wanted[name] = endpoint
        return wanted

    def address(self, container_id: str, network: str) -> str:
        """Where a container is on a network (its name) now; "" when it is not on it."""
        record = self._open.get(container_id)
        endpoints = record.endpoints if record is not None else ()
        return next((endpoint.address for endpoint in endpoints if endpoint.network_name == network), "")

    def aliases(self) -> Iterable[tuple[str, dict[str, str]]]:
        """Ids of the containers that have names of their own for others on their networks, with these names' addresses."""
        for record in self._open.values():
            if any(endpoint.links for endpoint in record.endpoints):
                yield record.container_id, self._aliases(record)

    def _aliases(self, record: Record) -> dict[str, str]:
        if not any(endpoint.links for endpoint in record.endpoints):
            return {}
        from coved.networks import links  # rare

        return links.aliases(record, [*self._open.values()])

    def interfaces(self, container_id: str) -> tuple[str, ...]:
        """Names of the devices that a running container's networks gave it, or gave the one whose namespace it joined."""
        record = self._open.get(container_id)
        if record is not None and record.shares:
            record = self._open.get(record.shares)
        return () if record is None else tuple(endpoint.interface for endpoint in record.endpoints)

    async def forget(self, container_id: str) -> None:
        """The container is removed: closes its sandbox, and drops networks it was connected to after its creation."""
        async with self._turns.of(container_id):
            if (record := self._open.get(container_id)) is not None:
                await to_the_end(self._tear_down(record, events=True))
            self._definitions.forget(container_id)
            self._turns.end(container_id)

    # -- networks -----------------------------------------------------------------------------------------------------

    def get(self, reference: str) -> Network:
        """By name, id, or the beginning of one id. Raises NotFound, or InvalidParameter when several begin so."""
        found = self._matching(reference)
        if not found:
            raise NotFound(f"network {reference} not found")
        if len(found) > 1:
            raise InvalidParameter(f"network {reference} is ambiguous ({len(found)} matches found on ID prefix)")
        return found[0]

    def inspect(self, reference: str) -> dict[str, Any]:
        return views.network_json(self.get(reference), self._open.values())

    def list(self, filters: Filters) -> builtins.list[dict[str, Any]]:
        """All networks that meet the filters, as the API lists them (without containers)."""
        filters.validate(LIST_FILTERS)
        if wrong := [kind for kind in filters.get("type") if kind not in ("builtin", "custom")]:
            raise InvalidParameter(f"invalid filter: 'type'='{wrong[0]}'")
        return [
            views.network_json(network, None) for network in self._networks.values() if self._meets(network, filters)
        ]

    async def create(self, config: dict[str, Any]) -> str:
        """Makes a network from a NetworkCreateRequest, and gives its id.

        Raises:
            Conflict: the name is taken. InvalidParameter, Forbidden, NotFound: the request cannot be met.
        """
        async with self._changing:
            taken = [network.network for network in self._networks.values() if network.subnet]
            foreign = await self._run(self._kernel.taken_subnets)
            network = create.definition(config, taken, foreign, await self._run(self._kernel.links))
            if any(other.name == network.name for other in self._networks.values()):
                raise Conflict(f"network with name {network.name} already exists")
            await self._run(self._kernel.add_network, network)
            try:
                self._definitions.add(network)
            except BaseException:
                await self._run(self._kernel.remove_network, network)
                raise
            self._remember(network)
        self._event("create", network.id)
        return network.id

    async def remove(self, reference: str) -> None:
        """Raises Forbidden for a predefined network, and for one that a container is on."""
        async with self._changing:
            network = self.get(reference)
            if network.name in PREDEFINED:
                raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
            if self._users(network):
                raise Forbidden(
                    f"error while removing network: network {network.name} id {network.id} has active endpoints"
                )
            self._definitions.remove(network.id)
            del self._networks[network.id], self._pools[network.id]
            await self._run(self._kernel.remove_network, network)
        self._event("destroy", network.id, network=network)

    async def prune(self, filters: Filters, before_ns: int | None) -> builtins.list[str]:
        """Removes networks that nothing is on, and gives their names.

        Args:
            before_ns: only those created before, in nanoseconds since the epoch.
        """
        filters.validate(PRUNE_FILTERS)
        removed = []
        for network in list(self._networks.values()):
            used = network.name in PREDEFINED or self._users(network)
            late = before_ns is not None and network.created_ns >= before_ns
            if not used and not late and filters.matches_labels(network.labels):
                with contextlib.suppress(Forbidden, NotFound):  # somebody has joined it meanwhile, or removed it
                    await self.remove(network.id)
                    removed.append(network.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    async def connect(self, reference: str, container_id: str, container_name: str, endpoint: EndpointRequest) -> None:
        """Puts a container on a further network: now when its sandbox is open, and at every start.

        Raises:
            Forbidden: it is on that network, or its mode does not allow it. NotFound, InvalidParameter, Conflict.
        """
        async with self._turns.of(container_id):
            network = self.get(reference)
            record = self._open.get(container_id)
            if not network.bridge or (record is not None and record.mode in ("host", "none")):
                raise InvalidParameter(
                    "container cannot be disconnected from host network or connected to host network"
                    if "host" in (network.name, record.mode if record is not None else "")
                    else f"container cannot be connected to network {network.name}: none stands alone"
                )
            if record is not None and record.shares:
                raise Forbidden(
                    "container sharing network namespace with another container or host cannot be connected"
                )
            endpoint = replace(endpoint, network=network.id)
            if record is not None:
                if any(present.network_id == network.id for present in record.endpoints):
                    raise Forbidden(f"endpoint with name {container_name} already exists in network {network.name}")
                await to_the_end(self._attach(record, network, endpoint))
            self._definitions.connect(container_id, network.id, endpoint)
        self.on_change(container_id, ())
        self._event("connect", network.id, container_id)

    async def rename(self, container_id: str, name: str) -> None:
        """A container has a new name; an open sandbox shows it from now on."""
        async with self._turns.of(container_id):
            record = self._open.get(container_id)
            if record is not None:
                self._note(replace(record, container_name=name))
                self.on_change(container_id, ())

    async def disconnect(self, reference: str, container_id: str, force: bool = False) -> None:
        """Takes a container off a network. Raises Forbidden when it is not on it, unless ``force``."""
        async with self._turns.of(container_id):
            network = self.get(reference)
            record = self._open.get(container_id)
            gone = next((e for e in (record.endpoints if record else ()) if e.network_id == network.id), None)
            stored = any(name == network.id for name, _ in self._definitions.connections(container_id))
            if gone is None and not stored:
                if force:
                    return
                raise Forbidden(f"container {container_id} is not connected to network {network.name}")
            lost = self._aliases(record) if record is not None else ()
            if record is not None and gone is not None:
                await to_the_end(self._detach(record, gone))
            self._definitions.disconnect(container_id, network.id)
        self.on_change(container_id, lost)
        self._event("disconnect", network.id, container_id)

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _kernel(self) -> Datapath:
        if self._datapath is None:
            raise EngineError("the engine's networks are not started")
        return self._datapath

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        call = asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *arguments))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            # The thread cannot be interrupted; whoever undoes its work must come after it, which the one thread ensures.
            call.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        except OSError as error:
            raise EngineError(f"{error.strerror or error}") from error

    async def _add_predefined(self) -> None:
        names = {network.name for network in self._networks.values()}
        if "bridge" not in names:
            subnet = free_subnet(await self._run(self._kernel.taken_subnets))
            devices = await self._run(self._kernel.links)
            bridge = next(name for name in ("docker0", *(f"cove{n}" for n in range(1000))) if name not in devices)
            network = replace(
                create.predefined("bridge", "bridge"),
                bridge=bridge,
                subnet=str(subnet),
                gateway=str(subnet.network_address + 1),
                options={**views.DRIVER_OPTIONS, "com.docker.network.bridge.name": bridge},
            )
            self._definitions.add(network)
            self._remember(network)
        for name, driver in (("host", "host"), ("none", "null")):
            if name not in names:
                network = create.predefined(name, driver)
                self._definitions.add(network)
                self._remember(network)
        if not self._host_gateway:
            self._host_gateway = self.get("bridge").gateway

    def _remember(self, network: Network) -> None:
        self._networks[network.id] = network
        if network.subnet:
            reserved = [network.gateway, *network.auxiliary.values()]
            ip_range = ipaddress.IPv4Network(network.ip_range) if network.ip_range else None
            self._pools[network.id] = AddressPool(
                network.network, [ipaddress.IPv4Address(text) for text in reserved], ip_range
            )

    def _adopt(self, record: Record) -> None:
        self._open[record.container_id] = record
        for endpoint in record.endpoints:
            try:
                self._pools[endpoint.network_id].take(endpoint.address)
            except EngineError as error:
                log.warning("address %s of %s: %s", endpoint.address, record.container_name, error)
        self._publisher.adopt(record.ports)

    def _matching(self, reference: str) -> builtins.list[Network]:
        networks = self._networks.values()
        exact = [network for network in networks if reference in (network.name, network.id)]
        if exact or not reference:
            return exact[:1]
        return [network for network in networks if network.id.startswith(reference)]

    def _connections(self, container_id: str) -> builtins.list[EndpointRequest]:
        return [endpoint for _, endpoint in self._definitions.connections(container_id)]

    def _wanted(self, container_id: str, request: SandboxRequest) -> builtins.list[tuple[Network, EndpointRequest]]:
        """The networks to be on; the mode's own is first."""
        own = self.get("bridge" if request.mode == "default" else request.mode)
        wanted: dict[str, tuple[Network, EndpointRequest]] = {own.id: (own, EndpointRequest(own.id))}
        for endpoint in (*request.endpoints, *self._connections(container_id)):
            network = self.get(endpoint.network)
            if not network.bridge:
                raise InvalidParameter(f"conflicting options: network {network.name} cannot be combined with others")
            wanted[network.id] = (network, endpoint)
        return list(wanted.values())

    def _allocate(
        self, request: SandboxRequest, wanted: Sequence[tuple[Network, EndpointRequest]]
    ) -> tuple[Endpoint, ...]:
        if request.mac_address and wanted and not wanted[0][1].mac_address:
            first, rest = wanted[0], wanted[1:]
            wanted = [(first[0], replace(first[1], mac_address=request.mac_address)), *rest]
        return self._allocate_all(wanted, 0)

    def _allocate_all(
        self, wanted: Sequence[tuple[Network, EndpointRequest]], first_interface: int
    ) -> tuple[Endpoint, ...]:
        made: builtins.list[Endpoint] = []
        try:
            for number, (network, endpoint) in enumerate(wanted, first_interface):
                made.append(self._endpoint(network, endpoint, f"eth{number}"))
        except BaseException:
            self._release(made)
            raise
        return tuple(made)

    def _endpoint(self, network: Network, request: EndpointRequest, interface: str) -> Endpoint:
        if request.mac_address and not _MAC.fullmatch(request.mac_address):
            raise InvalidParameter(f"invalid MAC address: {request.mac_address}")
        if request.links:
            from coved.networks import links  # rare

            for text in request.links:
                links.parse(text)
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
        return Endpoint(
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

    def _release(self, endpoints: Iterable[Endpoint]) -> None:
        for endpoint in endpoints:
            if pool := self._pools.get(endpoint.network_id):
                pool.release(endpoint.address)

    async def _build(self, record: Record, request: SandboxRequest) -> None:
        self._records.save(record)
        outer = _outer(record)
        if request.ports and outer is not None:
            try:
                ports = await self._publisher.publish(request.ports)
            except PublishError as error:
                raise EngineError(
                    "driver failed programming external connectivity on endpoint "
                    f"{record.container_name} ({outer.endpoint_id}): {error}"
                ) from None
            record = self._open[record.container_id] = replace(record, ports=ports)
            self._records.save(record)
        if record.has_namespace:
            endpoints = [(self._networks[endpoint.network_id], endpoint) for endpoint in record.endpoints]
            await self._run(self._kernel.open, record.container_id, endpoints, self._rules(record), request.namespace)

    def _note(self, record: Record) -> None:
        """The sandbox is like this from now on."""
        self._records.save(record)
        self._open[record.container_id] = record

    async def _tear_down(self, record: Record, *, events: bool) -> None:
        if self._open.pop(record.container_id, None) is None:
            return
        if record.has_namespace:
            shared = any(other.shares == record.container_id for other in self._open.values())
            arguments = (record.container_id, record.endpoints, self._rules(record), shared)
            done = await asyncio.gather(
                self._run(self._kernel.close_sandbox, *arguments),
                self._publisher.unpublish(record.ports),
                return_exceptions=True,
            )
            for error in done:
                if isinstance(error, BaseException):
                    log.error("closing the network of container %s: %s", record.container_id[:12], error)
            self._release(record.endpoints)
        try:
            self._records.remove(record.container_id)
        except OSError as error:
            log.error("the network of container %s stays on record: %s", record.container_id[:12], error)
        self.on_change(record.container_id, ())
        if events:
            for endpoint in record.endpoints:
                self._event("disconnect", endpoint.network_id, record.container_id)

    async def _attach(self, record: Record, network: Network, endpoint: EndpointRequest) -> None:
        (made,) = self._allocate_all([(network, endpoint)], _next_interface(record))
        no_route = not any(present.gateway for present in record.endpoints)
        try:
            # First: as long as it stands here, the network cannot be removed.
            self._note(replace(record, endpoints=(*record.endpoints, made)))
            await self._run(self._kernel.connect, record.container_id, network, made, no_route)
        except BaseException:
            try:
                await self._run(self._kernel.disconnect, made)
            finally:
                self._release([made])
                self._note(record)
            raise

    async def _detach(self, record: Record, gone: Endpoint) -> None:
        shrunk = replace(record, endpoints=tuple(e for e in record.endpoints if e is not gone))
        before, after = _outer(record), _outer(shrunk)
        if record.ports and before is gone:  # the ports move to the next network, or end
            await self._run(self._kernel.remove_ports, self._rules(record))
            if after is None:
                await self._publisher.unpublish(record.ports)
                shrunk = replace(shrunk, ports=())
            await self._run(self._kernel.add_ports, self._rules(shrunk))
        await self._run(self._kernel.disconnect, gone)
        if before is gone and after is not None:
            await self._run(self._kernel.set_default_route, record.container_id, after)
        self._note(shrunk)
        self._release([gone])

    def _rules(self, record: Record) -> builtins.list[PortRule]:
        outer = _outer(record)
        if outer is None:
            return []
        return [self._publisher.rule(port, outer.address) for port in record.ports]

    def _users(self, network: Network) -> builtins.list[Record]:
        return [r for r in self._open.values() if any(e.network_id == network.id for e in r.endpoints)]

    def _meets(self, network: Network, filters: Filters) -> bool:
        kind = "builtin" if network.name in PREDEFINED else "custom"
        used = bool(self._users(network)) or kind == "builtin"
        wanted = filters.get
        return (
            (not wanted("driver") or network.driver in wanted("driver"))
            and (not wanted("id") or any(network.id.startswith(value) for value in wanted("id")))
            and (not wanted("name") or any(value in network.name for value in wanted("name")))
            and (not wanted("scope") or "local" in wanted("scope"))
            and (not wanted("type") or kind in wanted("type"))
            and ("dangling" not in filters or filters.flag("dangling") is not used)
            and filters.matches_labels(network.labels)
        )

    def _sandbox(self, record: Record, request: SandboxRequest) -> Sandbox:
        owner, path = record, None
        if record.shares:
            owner = self._open.get(record.shares, record)
        if owner.has_namespace:
            path = self._namespaces / owner.container_id
        host_mode = path is None
        addresses = [endpoint.address for endpoint in owner.endpoints]
        linked = [(self.address(id, "bridge"), names) for id, names in request.linked]
        linked += [(address, alias) for alias, address in self._aliases(owner).items()]
        return Sandbox(
            container_id=record.container_id,
            netns_path=path,
            endpoints=owner.endpoints,
            ports=record.ports,
            resolv_conf=resolver.resolv_conf(request, host_mode=host_mode),
            hosts=resolver.hosts(
                request, addresses, self._host_gateway, [one for one in linked if one[0]], host_mode=host_mode
            ),
        )

    def _event(self, action: str, network_id: str, container_id: str = "", network: Network | None = None) -> None:
        network = network or self._networks.get(network_id)
        if network is not None:
            attributes = {"name": network.name, "type": network.driver}
            if container_id:
                attributes["container"] = container_id
            self._events.publish("network", action, network_id, attributes)


def _outer(record: Record) -> Endpoint | None:
    """The endpoint that leads outside: published ports and the default route are its."""
    return next((endpoint for endpoint in record.endpoints if endpoint.gateway), None)


def _next_interface(record: Record) -> int:
    return 1 + max((int(endpoint.interface.removeprefix("eth")) for endpoint in record.endpoints), default=-1)
