"""The sandboxes of containers: their place on networks. Their published ports are in ``coved.networks.published``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from coved.errors import Conflict, EngineError, Forbidden, InvalidParameter, NotFound
from coved.events import Events
from coved.finishing import to_the_end
from coved.networks import endpoints as places
from coved.networks import membership, outlived, resolver, views
from coved.networks.catalog import Catalog
from coved.networks.definition import Network
from coved.networks.described import describe
from coved.networks.endpoints import gateways
from coved.networks.kernel import Kernel
from coved.networks.model import (
    Endpoint,
    EndpointRequest,
    Sandbox,
    SandboxRequest,
    Settings,
)
from coved.networks.names import Names, wanted
from coved.networks.opened import Opened
from coved.networks.published import PublishedPorts
from coved.networks.publishers import PortPublisher
from coved.networks.records import Record, Records
from coved.networks.tidying import told
from coved.networks.turns import Turns

if TYPE_CHECKING:
    from coved.names.keeping import Keeper

log = logging.getLogger(__name__)


class Sandboxes:
    """Opens and closes them, and changes those that are open.

    Args:
        catalog: the networks that there are.
        events: told of connect and disconnect.
        state: directory that does not outlive a boot; ``sandboxes/`` is made in it, ``netns/`` is the kernel's.
        host_gateway: address of the machine that users mean by ``host-gateway``; "" is the gateway of ``bridge``.
        keeper: keeps the sockets of containers' DNS servers for the next engine.
    """

    def __init__(
        self,
        catalog: Catalog,
        kernel: Kernel,
        publisher: PortPublisher,
        events: Events,
        state: Path,
        host_gateway: str,
        keeper: Keeper | None = None,
    ) -> None:
        self._catalog = catalog
        self._kernel = kernel
        self._events = events
        self._records = Records(state / "sandboxes")
        self._namespaces = state / "netns"
        self._host_gateway = host_gateway
        self._open = Opened()
        self.ports = PublishedPorts(
            self._open, catalog, kernel, publisher, events, lambda container_id: self.on_change(container_id)
        )
        self._names = Names(self._open, kernel, self._namespaces, lambda: self.host_gateway, keeper)
        self._turns = Turns()
        self._closing: set[asyncio.Task[None]] = set()
        self.on_change: Callable[[str], None] = lambda container_id: None
        """Told of a container that has joined or left networks, and of one whose port is lost or back; it MUST NOT raise."""

    @property
    def host_gateway(self) -> str:
        """The address that users mean by ``host-gateway``."""
        return self._host_gateway or self._catalog.get("bridge").gateway

    def check(self, request: SandboxRequest) -> None:
        """Raises InvalidParameter for what no network that is there would give, before a container is made that asks for it."""
        for endpoint in request.endpoints:
            if not places.is_plain(endpoint) and (found := self._catalog.matching(endpoint.network)):
                try:
                    places.check(found[0], endpoint)
                except InvalidParameter as error:
                    raise InvalidParameter(f"invalid config for network {endpoint.network}: {error}") from None

    def __iter__(self) -> Iterator[Record]:
        """Those that are open."""
        return iter([*self._open.values()])

    def users(self, network: Network) -> list[Record]:
        """The open ones that are on a network."""
        return [one for one in self._open.values() if any(e.network_id == network.id for e in one.endpoints)]

    async def adopt(self, running: Collection[str]) -> None:
        """Takes up those of the containers ``running`` (ids), and makes the kernel's state that of them and of all networks.

        Raises:
            EngineError: the kernel refuses. OSError: the records cannot be changed.
        """
        alive, stale = await outlived.sort(self._records, self._catalog, self._kernel, running)
        for record in alive:
            self._open[record.container_id] = record
            for endpoint in record.endpoints:
                self._catalog.take(endpoint)
            self.ports.adopt(record)
        keep = {endpoint.host_interface: endpoint for record in alive for endpoint in record.endpoints}
        rules = [rule for record in alive for rule in self.ports.rules(record)]
        for record in stale:
            await self._kernel.run(self._kernel.datapath.drop_devices, record.container_id, record.endpoints)
        networks = [network for network in self._catalog if network.takes_containers]
        await self._kernel.run(self._kernel.datapath.start, networks, keep, rules)
        await self._kernel.run(self._kernel.datapath.remove_namespaces_except, set(self._open))
        await self._names.adopt()
        for record in alive:
            with told(record, "its published ports lead nowhere"):
                self.ports.lead(record)
        for record in stale:
            self._records.remove(record.container_id)
            self.on_change(record.container_id)

    async def open(self, container_id: str, request: SandboxRequest) -> Sandbox:
        """Makes the network of a container that is about to start; its published ports answer when this returns.

        Raises:
            NotFound: a network does not exist.
            InvalidParameter, Forbidden, Conflict: an address cannot be had.
            EngineError: Docker's "driver failed programming external connectivity ..." when a port cannot be bound.
        """
        async with self._turns.of(container_id):
            return await self._open_one(container_id, request)

    async def begin(self, container_id: str, request: SandboxRequest) -> tuple[Sandbox, asyncio.Task[Sandbox]]:
        """As ``open``, but returns when it is certain what the sandbox will be, all but its ports.

        It is there when the task is done, which somebody must wait for, and which raises what ``open`` raises.
        """
        planned: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()

        async def making() -> Sandbox:
            async with self._turns.of(container_id):
                return await self._open_one(container_id, request, planned.set_result)

        task = asyncio.get_running_loop().create_task(making())
        try:
            await asyncio.wait({planned, task}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        return (task.result() if task.done() else planned.result()), task

    async def _open_one(
        self, container_id: str, request: SandboxRequest, plan: Callable[[Sandbox], None] = lambda sandbox: None
    ) -> Sandbox:
        if (left := self._open.get(container_id)) is not None:
            await to_the_end(self._tear_down(left, events=True))
        mode = request.mode
        if mode.startswith("container:"):
            other = self._open.get(mode.removeprefix("container:"))
            if other is None:
                raise Conflict(f"cannot join network of a non running container: {mode.removeprefix('container:')}")
            record = Record(container_id, request.container_name, mode, quiet=request.quiet)
            self._records.save(record)
            self._open[container_id] = record
            return self._sandbox(record, request)
        if mode in ("host", "none"):
            record = Record(container_id, request.container_name, mode, exposed=request.exposed, quiet=request.quiet)
        else:
            endpoints = self._catalog.allocate(membership.wanted(self._catalog, container_id, request), 0)
            name, hostname = request.container_name, request.hostname
            exposed = request.exposed if any(one.host_interface for one in endpoints) else ()
            record = Record(
                container_id, name, "bridge", endpoints, (), exposed, hostname, request.quiet, request.dns,
                resolver.has_ndots(request),
            )  # fmt: skip
        self._open[container_id] = record
        plan(self._sandbox(record, request))
        try:
            await self._build(record, request)
        except BaseException:
            # Whoever is cancelled must not leave half a network behind, nor give up the turn before it is gone.
            with contextlib.suppress(asyncio.CancelledError):
                await to_the_end(self._tear_down(self._open[container_id], events=False))
            raise
        record = self._open[container_id]
        for endpoint in () if record.quiet else record.endpoints:
            self._event("connect", endpoint.network_id, container_id)
        self.on_change(container_id)
        return self._sandbox(record, request)

    async def release(self) -> None:
        """The engine ends; what is open stays."""
        await asyncio.gather(*self._closing)
        self.ports.release()
        self._names.release()

    async def close(self, container_id: str) -> None:
        """Releases ports, addresses and the namespace; does nothing when no sandbox is open.

        Does as much as it can; what fails is logged, and tried again by the next start of the container or the engine.
        """
        async with self._turns.of(container_id):
            if (record := self._open.get(container_id)) is not None:
                await to_the_end(self._tear_down(record, events=True))

    def settings(self, container_id: str, request: SandboxRequest | None = None) -> Settings:
        """NetworkSettings of a container; ``request`` is what it was created with."""
        asked = membership.by_name(self._catalog, container_id, request)
        record = self._open.get(container_id)
        if record is not None:
            key = str(self._namespaces / container_id) if record.has_namespace else ""
            alone = self._catalog.get(record.mode) if record.mode in ("host", "none") else None
            return views.settings_json(self.ports.without_lost(record), key, "bridge", asked, alone)
        return views.closed_settings_json(request, asked)

    def address(self, container_id: str, network: str) -> str:
        """Where a container is on a network (its name) now; "" when it is not on it."""
        return self._open.address(container_id, network)

    def addresses(self, container_id: str) -> list[str]:
        """Where a container is on its networks now."""
        record = self._open.get(container_id)
        endpoints = record.endpoints if record is not None else ()
        return [address for endpoint in endpoints for address in endpoint.addresses]

    def has_names(self, container_id: str) -> bool:
        """Whether a container has a DNS server of its own now."""
        return container_id in self._names

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
            self._catalog.forget(container_id)
            self._turns.end(container_id)

    async def connect(
        self,
        reference: str,
        container_id: str,
        container_name: str,
        endpoint: EndpointRequest,
        request: SandboxRequest | None = None,
    ) -> None:
        """Puts a container on a further network: now when its sandbox is open, and at every start.

        Args:
            request: what the container was created with.

        Raises:
            Forbidden: it is on that network. NotFound, InvalidParameter, EngineError.
        """
        async with self._turns.of(container_id):
            network = self._catalog.get(reference)
            record = self._open.get(container_id)
            mode = record.mode if record is not None else request.mode if request is not None else ""
            membership.check_mode(network, mode)
            if not places.is_plain(endpoint):
                places.check(network, endpoint)
            endpoint = replace(endpoint, network=network.id)
            if record is not None:
                if any(present.network_id == network.id for present in record.endpoints):
                    raise Forbidden(f"endpoint with name {container_name} already exists in network {network.name}")
            else:
                joined, left = self._catalog.joined_and_left(container_id)
                if network.id in joined or network.id in membership.created_on(self._catalog, request, left):
                    return  # what was said first holds, as in dockerd
            self._catalog.connect(container_id, endpoint)  # first: what cannot be put on record is not done
            if record is not None:
                try:
                    await to_the_end(self._attach(record, network, endpoint, request))
                except BaseException:
                    with told(record, f"its next start will connect it to {network.name}"):
                        self._catalog.disconnect(container_id, network)
                    raise
        self.on_change(container_id)
        self._event("connect", network.id, container_id)

    async def rename(self, container_id: str, name: str) -> None:
        """A container has a new name; an open sandbox shows it from now on."""
        async with self._turns.of(container_id):
            record = self._open.get(container_id)
            if record is not None:
                self._note(replace(record, container_name=name))

    async def disconnect(
        self, reference: str, container_id: str, force: bool = False, request: SandboxRequest | None = None
    ) -> None:
        """Takes a container off a network.

        Args:
            force: as dockerd has it, also when the network is no more.
            request: what the container was created with.

        Raises:
            NotFound: there is no such network. InvalidParameter, EngineError: it is not on it.
        """
        async with self._turns.of(container_id):
            try:
                network = self._catalog.get(reference)
            except NotFound:
                if not force:
                    raise
                raise EngineError(f"container {container_id} is not connected to the network {reference}") from None
            record = self._open.get(container_id)
            joined, left = self._catalog.joined_and_left(container_id)
            created_on = network.id in membership.created_on(self._catalog, request, left)
            gone: Endpoint | None = None
            if record is not None:
                if record.mode == network.driver == "host":
                    raise InvalidParameter(
                        "cannot disconnect container from host network - container was created in host network mode"
                    )
                gone = next((one for one in record.endpoints if one.network_id == network.id), None)
                if gone is None:
                    raise EngineError(f"container {container_id} is not connected to network {network.name}")
            elif network.id not in joined and not created_on:
                raise EngineError(f"container {container_id} is not connected to the network {network.name}")
            try:
                self._catalog.disconnect(container_id, network, created_on=created_on)
                if record is not None:
                    await to_the_end(self._detach(record, gone, request))
            except BaseException:
                with contextlib.suppress(EngineError, OSError):  # of a full disk, which is what is told
                    self._catalog.rejoin(container_id, network, joined.get(network.id), created_on=created_on)
                raise
        self.on_change(container_id)
        self._event("disconnect", network.id, container_id)

    # -- inside

    async def _build(self, record: Record, request: SandboxRequest) -> None:
        self._records.save(record)
        if request.ports and (ports := await self.ports.publish(record, request)):
            record = self._open[record.container_id] = replace(record, ports=ports)
            self._records.save(record)
            self.ports.tell_lost(record)
        if record.has_namespace:
            endpoints = [(self._catalog[endpoint.network_id], endpoint) for endpoint in record.endpoints]
            await self._kernel.run(
                self._kernel.datapath.open,
                record.container_id,
                endpoints,
                gateways(record.endpoints),
                self.ports.rules(record),
                request.namespace,
            )
            self.ports.lead(record)
            if wanted(record):
                await self._names.open(record)
            if endpoints:  # which has used it up: the next one, while this one's processes are being made
                self._kernel.submit(self._kernel.datapath.prepare)

    def _note(self, record: Record) -> None:
        """The sandbox is like this from now on."""
        self._records.save(record)
        self._open[record.container_id] = record

    def _is_now(self, record: Record) -> None:
        """The same, of what cannot be undone: whether it can be written down or not."""
        self._open[record.container_id] = record
        # The next engine finds out by itself which connections are no more.
        with told(record, "what its networks are is not on record"):
            self._records.save(record)

    async def _tear_down(self, record: Record, *, events: bool) -> None:
        if self._open.pop(record.container_id, None) is None:
            return
        self._names.close(record.container_id)
        self.ports.lead_nowhere(record)
        if record.has_namespace:
            shared = any(other.shares == record.container_id for other in self._open.values())
            arguments = (record.container_id, record.endpoints, self.ports.rules(record), shared)
            # The kernel takes a millisecond to end a mount, and ends the namespace and its pairs when it likes: nobody
            # need wait. Whoever gets these addresses next comes after this in the one thread.
            closed = self._kernel.submit(self._kernel.datapath.close_sandbox, *arguments)
            task = asyncio.get_running_loop().create_task(self._end(record, closed))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            if record.ports or shared:
                await asyncio.gather(asyncio.wait({closed}), self._close(record, self.ports.give_back(record.ports)))
            self._catalog.release(record.endpoints)
        try:
            self._records.remove(record.container_id)
        except OSError as error:
            log.error("the network of container %s stays on record: %s", record.container_id[:12], error)
        self.on_change(record.container_id)
        if events and not record.quiet:
            for endpoint in record.endpoints:
                self._event("disconnect", endpoint.network_id, record.container_id)

    async def _end(self, record: Record, closed: asyncio.Future[None]) -> None:
        ended = self._kernel.result(closed)
        await self._close(record, ended)
        if record.endpoints:
            await self._close(record, self._kernel.drop_pairs(record.endpoints))

    async def _close(self, record: Record, step: Awaitable[object]) -> None:
        try:
            await step
        except Exception as error:
            log.error("closing the network of container %s: %s", record.container_id[:12], error)

    async def _attach(
        self, record: Record, network: Network, endpoint: EndpointRequest, request: SandboxRequest | None
    ) -> None:
        if network.id not in self._catalog:  # any more
            raise NotFound(f"network {network.name} not found")
        (made,) = self._catalog.allocate([(network, endpoint)], _next_interface(record))
        grown = replace(record, endpoints=(*record.endpoints, made))
        ways = gateways(grown.endpoints)
        placed: Record | None = None
        try:
            # First: as long as it stands here, the network cannot be removed.
            self._note(grown)
            await self._kernel.run(self._kernel.datapath.connect, record.container_id, network, made, ways)
            if record.container_id not in self._names and wanted(grown):
                await self._names.open(record)
            placed = await self.ports.place(record, grown, request)
            if placed != grown:
                self._note(placed)
        except BaseException:
            try:
                if placed is not None:
                    await self.ports.put_back(placed, record)
                await self._kernel.run(self._kernel.datapath.disconnect, record.container_id, made)
                if made in ways:
                    with told(record, "it has no way out"):
                        before = gateways(record.endpoints)
                        await self._kernel.run(self._kernel.datapath.set_ways_out, record.container_id, before)
            finally:
                self._catalog.release([made])
                self._is_now(record)
            raise
        await self.ports.end(record, placed)

    async def _detach(self, record: Record, gone: Endpoint | None, request: SandboxRequest | None) -> None:
        """All of it or nothing: what fails before the pair is gone is put back, and after that there is no way but on."""
        if gone is None:
            return
        shrunk = replace(record, endpoints=tuple(e for e in record.endpoints if e is not gone))
        before, after = gateways(record.endpoints), gateways(shrunk.endpoints)
        placed = await self.ports.place(record, shrunk, request)
        try:
            await self._kernel.run(self._kernel.datapath.disconnect, record.container_id, gone)
        except BaseException:
            await self.ports.put_back(placed, record)
            raise
        self._is_now(placed)
        self._catalog.release([gone])
        await self.ports.end(record, placed)
        if gone in before and any(after):
            with told(record, "it has no way out"):
                await self._kernel.run(self._kernel.datapath.set_ways_out, record.container_id, after)

    def _sandbox(self, record: Record, request: SandboxRequest) -> Sandbox:
        return describe(record, request, self._open, self._namespaces, self.host_gateway, self._host_gateway)

    def _event(self, action: str, network_id: str, container_id: str) -> None:
        if network_id in self._catalog:
            attributes = self._catalog[network_id].event_attributes(container_id)
            self._events.publish("network", action, network_id, attributes)


def _next_interface(record: Record) -> int:
    names = [endpoint.interface for endpoint in record.endpoints]
    return 1 + max((int(name[len(name.rstrip("0123456789")) :]) for name in names), default=-1)
