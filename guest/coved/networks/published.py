"""The published ports of sandboxes: they are led to the container's place on the network that is its way out.

Nothing is noted here: whoever asks for a change says what the sandbox is, and notes what it is given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from coved.errors import EngineError
from coved.events import Events
from coved.networks.catalog import Catalog
from coved.networks.definition import HOST_BINDING
from coved.networks.endpoints import gateways
from coved.networks.firewall import PortRule
from coved.networks.kernel import Kernel
from coved.networks.model import Endpoint, PortRequest, PublishedPort, SandboxRequest
from coved.networks.opened import Opened
from coved.networks.publishers import PortPublisher, PublishError
from coved.networks.records import Record
from coved.networks.relays import Relays
from coved.networks.tidying import told

log = logging.getLogger(__name__)


class PublishedPorts:
    """Binds them, leads them, has them follow their container from network to network, and gives them back.

    Args:
        opened: the sandboxes that are open, to find whose a port is.
        publisher: binds ports of the host; its ``owner`` and ``on_lost`` are set here.
        events: told of ports that are lost, and that are back.
        on_change: told the same, of the container; it MUST NOT raise.
    """

    def __init__(
        self,
        opened: Opened,
        catalog: Catalog,
        kernel: Kernel,
        publisher: PortPublisher,
        events: Events,
        on_change: Callable[[str], None],
    ) -> None:
        self._opened = opened
        self._catalog = catalog
        self._kernel = kernel
        self._publisher = publisher
        self._relays = Relays(publisher)
        self._events = events
        self._on_change = on_change
        publisher.owner = self._owner
        publisher.on_lost = self._lost

    # -- of a sandbox that is opened, or taken up, and closed

    async def publish(self, record: Record, request: SandboxRequest) -> tuple[PublishedPort, ...]:
        """Binds the ports that were asked for; they lead nowhere yet. There are none on a macvlan or ipvlan.

        Raises:
            EngineError: Docker's "driver failed programming external connectivity ..." when a port cannot be bound.
        """
        outer = _outer(record)
        if outer is None or not outer.host_interface:
            return ()
        try:
            return await self._publisher.publish(self._with_address(request.ports, outer), keep=request.keep_ports)
        except PublishError as error:
            raise EngineError(
                "driver failed programming external connectivity on endpoint "
                f"{record.container_name} ({outer.endpoint_id}): {error}"
            ) from None

    def tell_lost(self, record: Record) -> None:
        """Tells of those that were lost when they were published, and nobody knew yet whose they are."""
        for port in record.ports:
            if port in self._publisher.lost:
                self._lost(port, True)

    def adopt(self, record: Record) -> None:
        """Takes over those that an earlier engine published. The sandbox is among the open ones: some may be lost."""
        self._publisher.adopt(record.ports)

    def rules(self, record: Record) -> list[PortRule]:
        """What leads its ports to it where it has IPv4; [] where ``lead`` does."""
        way = _published(record)
        if way is None or not way.address:
            return []
        return [rule for port in record.ports for rule in self._publisher.rules_for(port, way.address)]

    def lead(self, record: Record) -> None:
        """Leads those to it that no rule can lead there. Raises EngineError."""
        self._relays.lead(record.ports, _relayed(record))

    def lead_nowhere(self, record: Record) -> None:
        """Ends what ``lead`` has begun."""
        self._relays.lead(record.ports, "")

    async def give_back(self, ports: Sequence[PublishedPort]) -> None:
        """Others may have them from now on. Does not raise: there is nothing that a caller could do."""
        await self._publisher.unpublish(ports)

    def release(self) -> None:
        """The engine ends: what the engine itself leads ends with it, and the ports stay bound for the next one."""
        self._relays.close()

    # -- of one whose networks change

    async def place(self, old: Record, new: Record, request: SandboxRequest | None) -> Record:
        """``new`` with its published ports, which go with the way out: they move, or end, or there are some again.

        What fails leaves those of ``old``. Those that end are bound until ``end``, so that there is a way back.

        Args:
            request: what the container was created with.

        Raises:
            EngineError: a port cannot be bound, or cannot be led to the container.
        """
        if _published(new) is None:
            new = replace(new, ports=())
        elif not new.ports and request is not None and request.ports:
            new = replace(new, ports=await self.publish(new, request))
        try:
            await self._move(old, new)
        except BaseException:
            await self.end(new, old)
            raise
        return new

    async def put_back(self, placed: Record, old: Record) -> None:
        """Undoes a ``place`` as far as it can be undone; what fails is logged."""
        with told(old, "its published ports have no way back to it"):
            await self._move(placed, old)
        await self.end(placed, old)

    async def end(self, old: Record, new: Record) -> None:
        """Gives back the ports that ``new`` has no more."""
        if old.ports and not new.ports:
            await self.give_back(old.ports)

    async def _move(self, old: Record, new: Record) -> None:
        """Leads the ports to where ``new`` is from now on; when that cannot be, to where ``old`` is. Raises EngineError."""
        if self.rules(old) == self.rules(new) and _relayed(old) == _relayed(new):
            return
        await self._kernel.run(self._kernel.datapath.remove_ports, self.rules(old))
        try:
            self.lead_nowhere(old)
            await self._kernel.run(self._kernel.datapath.add_ports, self.rules(new))
            self.lead(new)
        except BaseException:
            with told(old, "its published ports have no way back to it"):
                await self._kernel.run(self._kernel.datapath.add_ports, self.rules(old))
                self.lead(old)
            raise

    # -- what is asked about them

    def reached_by(self, host_port: int) -> tuple[str, int] | None:
        """The container's address and port that ``localhost:host_port`` (TCP) leads to on the computer that people use."""
        for record in self._opened.values():
            outer = _published(record)
            for port in record.ports if outer is not None else ():
                local = port.host_ip in ("", "0.0.0.0") or port.host_ip.startswith("127.")
                if outer is not None and local and (port.proto, port.host_port) == ("tcp", host_port):
                    return outer.address or outer.address6, port.container_port
        return None

    def without_lost(self, record: Record) -> Record:
        """As it is shown: with those ports alone that lead to it now."""
        lost = self._publisher.lost
        return replace(record, ports=tuple(one for one in record.ports if one not in lost)) if lost else record

    # -- inside

    def _with_address(self, ports: Sequence[PortRequest], outer: Endpoint) -> Sequence[PortRequest]:
        """The ports with the address that the network binds those to which name none."""
        binding = self._catalog[outer.network_id].options.get(HOST_BINDING)
        return [replace(port, host_ip=port.host_ip or binding) for port in ports] if binding else ports

    def _holder(self, port: PublishedPort) -> Record | None:
        return next((record for record in self._opened.values() if port in record.ports), None)

    def _owner(self, port: PublishedPort) -> str:
        record = self._holder(port)
        return record.container_name if record is not None else ""

    def _lost(self, port: PublishedPort, lost: bool) -> None:
        record = self._holder(port)
        if record is None:
            return
        host = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
        shown = f"{host}:{port.host_port}->{port.container_port}/{port.proto}"
        log.warning("port %s of container %s is %s", shown, record.container_name, "lost" if lost else "back")
        attributes = {"name": record.container_name, "port": shown}
        self._events.publish("container", "port_lost" if lost else "port_back", record.container_id, attributes)
        self._on_change(record.container_id)


def _outer(record: Record) -> Endpoint | None:
    """The endpoint that leads outside."""
    ways = gateways(record.endpoints)
    return ways.ipv4 or ways.ipv6


def _published(record: Record) -> Endpoint | None:
    """The endpoint that ports are published at, if there is one: by IPv4, or by IPv6 where there is no IPv4, and not at a macvlan
    or an ipvlan, as with Docker."""
    way = _outer(record)
    return way if way is not None and way.host_interface and any(way.addresses) else None


def _relayed(record: Record) -> str:
    """The address that no rule can lead its published ports to; "" when rules do."""
    way = _published(record)
    return way.address6 if way is not None and not way.address else ""
