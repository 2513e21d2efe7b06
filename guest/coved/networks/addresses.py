"""Which subnet a network gets, and which address a container gets in it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from coved.errors import Conflict, EngineError, Forbidden, InvalidParameter

DEFAULT_POOLS: tuple[tuple[str, int], ...] = (*((f"172.{n}.0.0/16", 16) for n in range(17, 32)), ("192.168.0.0/16", 20))
"""Docker's own pools (dockerd documentation, "default-address-pools"): block, prefix length of the subnets taken."""


def _candidates() -> Iterator[ipaddress.IPv4Network]:
    for block, length in DEFAULT_POOLS:
        yield from ipaddress.IPv4Network(block).subnets(new_prefix=length)


def free_subnet(taken: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """The first subnet of the default pools that overlaps none of ``taken``.

    Raises:
        EngineError: there is none left, with Docker's words.
    """
    networks = list(taken)
    for candidate in _candidates():
        if not any(candidate.overlaps(network) for network in networks):
            return candidate
    raise EngineError(
        "all predefined address pools have been fully subnetted: remove networks that are not used "
        "(docker network prune), or create this one with --subnet"
    )


def mac_of(address: ipaddress.IPv4Address) -> str:
    """A locally administered MAC made from the address, so that neighbours' caches stay right when it is used again."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + address.packed)


class AddressPool:
    """The addresses of one network; the lowest free one is given first."""

    def __init__(
        self,
        subnet: ipaddress.IPv4Network,
        reserved: Iterable[ipaddress.IPv4Address],
        ip_range: ipaddress.IPv4Network | None = None,
    ) -> None:
        self._subnet = subnet
        self._range = ip_range or subnet
        self._used = {subnet.network_address, subnet.broadcast_address, *reserved}

    def allocate(self) -> ipaddress.IPv4Address:
        """Raises Conflict when every address is taken."""
        first, last = int(self._range.network_address), int(self._range.broadcast_address)
        for number in range(first, last + 1):
            address = ipaddress.IPv4Address(number)
            if address not in self._used:
                self._used.add(address)
                return address
        raise Conflict(f"no available IPv4 addresses on this network's address pools: {self._range}")

    def take(self, text: str) -> ipaddress.IPv4Address:
        """Takes the given address; raises InvalidParameter or Forbidden, with Docker's words, when it cannot be had."""
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            raise InvalidParameter(f"invalid IPv4 address: {text}") from None
        if address not in self._subnet:
            raise InvalidParameter(f"no configured subnet contains IP address {text}")
        if address in self._used:
            raise Forbidden("Address already in use")
        self._used.add(address)
        return address

    def release(self, text: str) -> None:
        self._used.discard(ipaddress.IPv4Address(text))
