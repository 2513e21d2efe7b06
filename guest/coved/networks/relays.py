"""Published ports of containers that have IPv6 alone: the host's port is of IPv4, and rules translate no family into another.

The engine carries these connections itself, as dockerd's proxy does, and they end with it; the next one takes the ports up again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from coved.errors import EngineError
from coved.networks.model import PublishedPort
from coved.networks.publishers import PortPublisher

if TYPE_CHECKING:
    from coved.link.relay import Relay


class Relays:
    """Those that there are, by what was published."""

    def __init__(self, publisher: PortPublisher) -> None:
        self._publisher = publisher
        self._open: dict[PublishedPort, tuple[str, Relay]] = {}

    def lead(self, ports: Iterable[PublishedPort], address: str) -> None:
        """These ports lead to this IPv6 address from now on; with "", to nowhere. Raises EngineError."""
        for port in ports:
            now, relay = self._open.get(port, ("", None))
            if now == address:
                continue
            if relay is not None:
                del self._open[port]
                relay.close()
            if address:
                self._open[port] = address, self._relay(port, address)

    def close(self) -> None:
        """The engine ends: connections end with it."""
        self.lead([*self._open], "")

    def _relay(self, port: PublishedPort, address: str) -> Relay:
        from coved.link.relay import Relay  # few containers have no IPv4

        try:
            listener = self._publisher.listener(port)
            try:
                relay = Relay.at(listener)
            except OSError:
                listener.close()
                raise
        except OSError as error:
            raise EngineError(f"port {port.host_port} cannot be led to {address}: {error.strerror}") from error
        relay.serve(address, port.container_port)
        return relay
