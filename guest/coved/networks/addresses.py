"""Which subnet a network gets, and which address a container gets in it. The same for both families."""

from __future__ import annotations

import hashlib
import ipaddress
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from coved.errors import EngineError, Forbidden, InvalidParameter

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Subnet: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_RTF_GATEWAY = 2
"""route(4)"""
Pools: TypeAlias = Sequence[tuple[Subnet, int]]
"""Blocks, each with the prefix length of the subnets taken from it."""

DEFAULT_POOLS: Pools = (
    *((ipaddress.IPv4Network(f"172.{n}.0.0/16"), 16) for n in range(17, 32)),
    (ipaddress.IPv4Network("192.168.0.0/16"), 20),
)
"""Docker's own pools (dockerd documentation, "default-address-pools")."""

GLOBAL_POOLS: Pools = ((ipaddress.IPv4Network("10.0.0.0/8"), 24),)
"""Of networks whose scope is ``global``."""


def parse_address(text: str) -> Address:
    """An address without a zone, behind whose ``%`` there could be anything. Raises ValueError."""
    if "%" in text:  # Go's net.ParseIP, and so dockerd, knows no zones
        raise ValueError(f"{text!r} has a zone")
    return ipaddress.ip_address(text)


def default_gateway(routes: Path = Path("/proc/net/route")) -> str:
    """Where packets leave this machine; "" when they do not (proc_net(5): numbers as the machine has them in memory)."""
    for line in routes.read_text("ascii").splitlines()[1:]:
        _, destination, gateway, flags, *_ = line.split()
        if int(destination, 16) == 0 and int(flags, 16) & _RTF_GATEWAY:
            return str(ipaddress.IPv4Address(int(gateway, 16).to_bytes(4, sys.byteorder)))
    return ""


def local_pools(seed: str) -> Pools:
    """The pool of unique local addresses (RFC 4193, 3.2) that an engine takes its networks' IPv6 subnets from.

    Args:
        seed: what no other engine has, and what this one always has.
    """
    number = b"\xfd" + hashlib.sha256(seed.encode()).digest()[:5]
    return ((ipaddress.IPv6Network((number + bytes(10), 48)), 64),)


def free_subnet(taken: Iterable[Subnet], pools: Pools = DEFAULT_POOLS) -> Subnet:
    """The first subnet of the pools that overlaps none of ``taken``, which may be of both families.

    Raises:
        EngineError: there is none left, with Docker's words.
    """
    bounds: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
    for network in taken:
        first = int(network.network_address)
        bounds[network.version].append((first, first + network.num_addresses))
    for block, length in pools:
        size = 1 << (block.max_prefixlen - length)
        number = int(block.network_address)
        for start, end in sorted(bounds[block.version]):
            if start >= number + size:
                break
            if end > number:  # the next candidate that begins behind it
                number += -(-(end - number) // size) * size
        if number < int(block.network_address) + block.num_addresses:
            return ipaddress.ip_network((number.to_bytes(block.max_prefixlen // 8, "big"), length))
    raise EngineError(
        "all predefined address pools have been fully subnetted: remove networks that are not used "
        "(docker network prune), or create this one with --subnet"
    )


def mac_of(address: Address) -> str:
    """A locally administered MAC made from the address, so that neighbours' caches stay right when it is used again."""
    tail = b"\x42" + address.packed if address.version == 4 else hashlib.sha256(address.packed).digest()[:5]
    return ":".join(f"{byte:02x}" for byte in b"\x02" + tail)


class AddressPool:
    """The addresses of one subnet; the lowest free one is given first."""

    def __init__(self, subnet: Subnet, ip_range: Subnet | None = None) -> None:
        self._subnet = subnet
        limits = ip_range or subnet
        self._first, self._last = int(limits.network_address), int(limits.broadcast_address)
        self._used: set[int] = set()
        point_to_point = subnet.version == 4 and subnet.prefixlen >= 31  # RFC 3021
        if not point_to_point:  # the network itself, or the anycast address of its routers (RFC 4291, 2.6.1)
            self._used.add(int(subnet.network_address))
        if subnet.version == 4 and not point_to_point:
            self._used.add(int(subnet.broadcast_address))

    def allocate(self) -> Address | None:
        """None when every address is taken."""
        number, used = self._first, self._used
        while number in used:
            number += 1
        if number > self._last:
            return None
        used.add(number)
        return type(self._subnet.network_address)(number)

    def take(self, address: Address) -> None:
        """Raises InvalidParameter or Forbidden, with Docker's words, when it cannot be had."""
        if address not in self._subnet:
            raise InvalidParameter("requested address is out of range")
        if int(address) in self._used:
            raise Forbidden("Address already in use")
        self._used.add(int(address))

    def release(self, address: Address) -> None:
        self._used.discard(int(address))
