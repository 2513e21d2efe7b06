"""Published ports: what the guest asks for, bound on this computer by the hypervisor."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

from coved.link.protocol import PortForward

from cove.drivers.base import Driver, Forward
from cove.errors import DriverError, PortInUse
from cove.forward import holders

log = logging.getLogger(__name__)

_ATTEMPTS = 8


class PortForwards:
    """Keeps the forwards that are. `default_address` is bound where the guest names none.

    A `PortInUse` that it raises has as its message who has the port, or nothing: the engine puts docker's words before it.
    """

    def __init__(self, driver: Driver, default_address: str) -> None:
        self._driver = driver
        self._default = default_address
        self._bound: set[Forward] = set()
        self._lock = asyncio.Lock()

    async def publish(self, port: PortForward) -> PortForward:
        """Bind a port and return it as it was bound. Raises `PortInUse`, `DriverError`."""
        async with self._lock:
            try:
                return await self._publish(port)
            except PortInUse:
                raise await self._refusal(port) from None

    async def _publish(self, port: PortForward) -> PortForward:
        address = port.host_ip or self._default
        for attempt in range(_ATTEMPTS):
            number = port.host_port or free_port(port.proto, address)
            forward = Forward(port.proto, address, number, port.guest_port)
            if forward in self._bound:
                break
            try:
                await self._driver.forward(forward)
            except PortInUse:
                # Somebody was faster with a port that was free a moment ago: any other one will do.
                if not port.host_port and attempt < _ATTEMPTS - 1:
                    continue
                raise
            self._bound.add(forward)
            break
        return PortForward(port.proto, port.guest_port, address, number)

    async def _refusal(self, port: PortForward) -> DriverError:
        if any((other.proto, other.host_port) == (port.proto, port.host_port) for other in self._bound):
            return PortInUse("another container has it")
        return await asyncio.to_thread(holders.refusal, port.proto, port.host_ip or self._default, port.host_port)

    async def unpublish(self, port: PortForward) -> None:
        """Free a port; one that is not bound is no error."""
        async with self._lock:
            await self._unpublish(port)

    async def _unpublish(self, port: PortForward) -> None:
        forward = Forward(port.proto, port.host_ip or self._default, port.host_port, port.guest_port)
        await self._driver.unforward(forward)
        self._bound.discard(forward)

    async def sync(self, ports: Sequence[PortForward]) -> list[PortForward]:
        """Make the forwards exactly `ports`; those that cannot be had again are left out of the result."""
        async with self._lock:
            wanted = {Forward(p.proto, p.host_ip or self._default, p.host_port, p.guest_port) for p in ports}
            for forward in self._bound - wanted:
                await self._driver.unforward(forward)
            self._bound &= wanted
            result = []
            for port in ports:
                try:
                    result.append(await self._publish(port))
                except DriverError as error:
                    # After an agent's crash QEMU still has the forward: then the port is "in use" by what we want.
                    await self._unpublish(port)
                    try:
                        result.append(await self._publish(port))
                    except DriverError:
                        log.warning("published port %s:%d is lost: %s", port.host_ip, port.host_port, error)
            return result


def free_port(proto: str, address: str) -> int:
    """A port that is free at this moment. Raises `DriverError`."""
    kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise DriverError(f"{address} is not an address of this computer: {error.strerror}") from error
        return int(probe.getsockname()[1])
