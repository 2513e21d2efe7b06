"""The names that containers have for each other: a DNS server for each that is on a network of users (docs/decisions/0036).

What it answers is looked up in the open sandboxes at the time of the query, so that nothing has to be told of changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from coved.errors import EngineError
from coved.names.zone import Host, Zone, folded
from coved.networks import resolver
from coved.networks.model import Endpoint
from coved.networks.opened import Opened
from coved.networks.records import Record

if TYPE_CHECKING:
    from coved.names.forwarding import Server as Upstream
    from coved.names.keeping import Keeper
    from coved.names.message import Query
    from coved.names.server import Server
    from coved.networks.kernel import Kernel

log = logging.getLogger(__name__)

FORWARDED = 1024
"""Queries of all containers that others are asked at a time: each has a descriptor of the engine's."""


def wanted(record: Record) -> bool:
    """Whether the container is to have a DNS server, as those on the default network alone have none."""
    return any(endpoint.network_name != "bridge" for endpoint in record.endpoints)


class Names:
    """The servers, by container.

    Args:
        namespaces: where network namespaces are mounted.
        machine: gives the address of what ``host.docker.internal`` is.
        keeper: keeps the sockets for the engine that comes after this one; None: there is none that could.
    """

    def __init__(
        self,
        opened: Opened,
        kernel: Kernel,
        namespaces: Path,
        machine: Callable[[], str],
        keeper: Keeper | None = None,
    ) -> None:
        self._opened = opened
        self._kernel = kernel
        self._namespaces = namespaces
        self._keeper = keeper
        self.machine = machine
        self._servers: dict[str, Server] = {}
        self._zones: dict[str, Zone] = {}
        self._links: dict[str, dict[str, list[bytes]]] = {}
        self._of = -1
        self._forwarded = 0
        self._visitor: ThreadPoolExecutor | None = None

    def __contains__(self, container_id: str) -> bool:
        return container_id in self._servers

    async def adopt(self) -> None:
        """Takes up the servers of all open sandboxes. One that cannot be had again is logged."""
        kept = self._keeper.take() if self._keeper is not None else {}
        for record in [*self._opened.values()]:
            if record.has_namespace and wanted(record):
                sockets = kept.pop(record.container_id, ())
                try:
                    if len(sockets) == 2:
                        self._serve(record.container_id, sockets[0], sockets[1])
                    else:
                        kept[record.container_id] = [*sockets]
                        await self.open(record)
                except (EngineError, OSError) as error:
                    log.error("container %s finds no names: %s", record.container_id[:12], error)
        for sockets in kept.values():
            for one in sockets:
                one.close()

    async def open(self, record: Record) -> None:
        """Starts the server of a container whose namespace is there. Raises EngineError."""
        from coved.networks import name_sockets  # only when there are networks of users

        udp, tcp = await self._kernel.run(name_sockets.make, self._namespaces / record.container_id)
        self._serve(record.container_id, udp, tcp)

    def close(self, container_id: str) -> None:
        """Ends the server, so that nothing of it holds the namespace. Does nothing when there is none."""
        server = self._servers.pop(container_id, None)
        if server is not None:
            server.close()
            if self._keeper is not None:
                self._keeper.drop(container_id)

    def release(self) -> None:
        """Ends what this engine does; the sockets stay for the next one, if somebody keeps them."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        if self._visitor is not None:
            self._visitor.shutdown(wait=False)
            self._visitor = None

    def _serve(self, container_id: str, udp: socket.socket, tcp: socket.socket) -> None:
        from coved.names.responder import Responder
        from coved.names.server import Server

        self.close(container_id)
        view = _View(self, container_id)
        self._servers[container_id] = Server(udp, tcp, Responder(view), view.forward)
        if self._keeper is not None:
            self._keeper.put(container_id, (udp, tcp))

    # -- what is there

    def record(self, container_id: str) -> Record | None:
        return self._opened.get(container_id)

    def zone(self, endpoint: Endpoint) -> Zone:
        """All places on the endpoint's network."""
        self._refresh()
        zone = self._zones.get(endpoint.network_id)
        if zone is None:
            hosts = [
                Host(place.address, names_of(record, place))
                for record in self._opened.values()
                if not record.quiet
                for place in record.endpoints
                if place.network_id == endpoint.network_id
            ]
            zone = self._zones[endpoint.network_id] = Zone(endpoint.network_name, hosts)
        return zone

    def links(self, record: Record) -> dict[str, list[bytes]]:
        """The names that this container alone has for others, in lower case."""
        self._refresh()
        found = self._links.get(record.container_id)
        if found is None:
            found = self._links[record.container_id] = {}
            for endpoint in record.endpoints:
                if endpoint.links:
                    from coved.networks import links  # rare

                    zone = self.zone(endpoint)
                    for target, alias in map(links.parse, endpoint.links):
                        if alias and (addresses := zone.addresses(folded(target))):
                            found.setdefault(folded(alias), [*addresses])
        return found

    def _refresh(self) -> None:
        if self._of != self._opened.generation:
            self._of = self._opened.generation
            self._zones.clear()
            self._links.clear()

    # -- ways out

    async def forward(self, query: Query, servers: Sequence[Upstream], *, by_tcp: bool) -> bytes:
        """What one of the servers answers."""
        from coved.names import forwarding, message

        if self._forwarded >= FORWARDED:
            return message.failure(query, message.REFUSED)
        self._forwarded += 1
        try:
            return await forwarding.ask(query, servers, by_tcp=by_tcp)
        finally:
            self._forwarded -= 1

    async def socket_of(
        self, container_id: str, family: socket.AddressFamily, kind: socket.SocketKind
    ) -> socket.socket:
        """One whose packets go the container's way. Raises OSError."""
        from coved.networks import name_sockets

        if self._visitor is None:  # its own: the one of the networks may be busy for a moment
            self._visitor = ThreadPoolExecutor(1, "names")
        path = self._namespaces / container_id
        call = asyncio.get_running_loop().run_in_executor(self._visitor, name_sockets.outgoing, path, family, kind)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            call.add_done_callback(_close_made)
            raise


class _View:
    """What one container sees: it is asked for every query."""

    def __init__(self, names: Names, container_id: str) -> None:
        self._names = names
        self._id = container_id

    def _endpoints(self) -> Iterator[Endpoint]:
        record = self._names.record(self._id)
        return iter(e for e in record.endpoints if e.network_name != "bridge") if record is not None else iter(())

    @property
    def forwards(self) -> bool:
        """It has a way out of its networks."""
        record = self._names.record(self._id)
        return record is not None and any(one.gateway or one.reach for one in record.endpoints)

    @property
    def dotless(self) -> bool:
        record = self._names.record(self._id)
        return record is None or not record.ndots

    def addresses(self, name: str) -> Sequence[bytes] | None:
        record = self._names.record(self._id)
        if record is None:
            return None
        if linked := self._names.links(record).get(name):
            return linked
        for endpoint in record.endpoints:
            if endpoint.network_name != "bridge" and (found := self._names.zone(endpoint).addresses(name)):
                return found
        if name in resolver.MACHINE:
            return (ipaddress.IPv4Address(self._names.machine()).packed,)
        return None

    def name_of(self, address: str) -> str:
        for endpoint in self._endpoints():
            if found := self._names.zone(endpoint).name_of(address):
                return found
        return ""

    async def forward(self, query: Query, by_tcp: bool) -> bytes:
        return await self._names.forward(query, self._upstreams(), by_tcp=by_tcp)

    def _upstreams(self) -> list[Upstream]:
        """The servers that it was given, asked by the container's way, or those of this machine."""
        from coved.names import forwarding

        record = self._names.record(self._id)
        given = record.dns if record is not None else ()
        servers = forwarding.usable(given or resolver.servers())
        return [
            # What listens on this machine's own loopback is there for nobody else.
            forwarding.Server(one, _socket_here if not given and forwarding.is_loopback(one) else self._socket)
            for one in servers
        ]

    async def _socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        return await self._names.socket_of(self._id, family, kind)


async def _socket_here(family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    made = socket.socket(family, kind)
    made.setblocking(False)
    return made


def names_of(record: Record, endpoint: Endpoint) -> tuple[str, ...]:
    """Those of a container on one network, its own first; what an inspect shows as ``DNSNames``."""
    names = (record.container_name, *endpoint.aliases, record.container_id[:12], record.hostname)
    return tuple(dict.fromkeys(filter(None, names)))


def _close_made(call: asyncio.Future[socket.socket]) -> None:
    with contextlib.suppress(Exception, asyncio.CancelledError):
        call.result().close()
