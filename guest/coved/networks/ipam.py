"""What a request's IPAM asks for, and the subnets and gateways that a network gets for it (Engine API, IPAM)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coved.errors import EngineError, Forbidden, InvalidParameter
from coved.networks.addresses import (
    DEFAULT_POOLS,
    GLOBAL_POOLS,
    Address,
    AddressPool,
    Pools,
    Subnet,
    free_subnet,
    parse_address,
)

_PREFIX = re.compile(r"[0-9A-Fa-f.:]+/(0|[1-9][0-9]{0,2})")
_WORDS = ("Subnet", "IPRange", "Gateway")
LINK_LOCAL = ipaddress.IPv6Network("fe80::/64")
LOOPBACK = ipaddress.IPv6Address("::1")


@dataclass(frozen=True)
class Given:
    """One entry of IPAM.Config that is in order, but for IPv6's on a network without it."""

    subnet: Subnet
    gateway: Address | None = None
    ip_range: Subnet | None = None
    auxiliary: dict[str, str] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)
    """As it was written."""


@dataclass(frozen=True)
class Allocated:
    """Of one family; all are "" when the network has none of it."""

    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    auxiliary: dict[str, str] = field(default_factory=dict)


def prefix(text: str) -> Subnet | None:
    """A subnet in CIDR notation; None when it is none, or has bits set behind its prefix."""
    try:
        return ipaddress.ip_network(text) if _PREFIX.fullmatch(text) else None
    except ValueError:
        return None


def parse(entries: object, *, ipv6: bool) -> list[Given]:
    """The entries of IPAM.Config, IPv4's first.

    Args:
        ipv6: the network has IPv6; without it, what is said of that is kept as it is.

    Raises:
        InvalidParameter: with all that is wrong, in Docker's words.
    """
    if not isinstance(entries or [], list):
        raise InvalidParameter("invalid IPAM config: not a list of objects")
    found: list[Given] = []
    wrong: list[str] = []
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping):
            raise InvalidParameter("invalid IPAM config: not a list of objects")
        _parse_one(entry, ipv6, found, wrong)
    if wrong:
        raise InvalidParameter("invalid network config:\n" + joined(wrong))
    return sorted(found, key=lambda one: one.subnet.version)


def joined(errors: Sequence[str]) -> str:
    """As dockerd tells several things at once."""
    if len(errors) == 1:
        return errors[0]
    return "\n".join("* " + error.replace("\n", "\n\t") for error in errors)


def _parse_one(entry: Mapping[str, Any], ipv6: bool, found: list[Given], wrong: list[str]) -> None:
    texts = {}
    for word in _WORDS:
        texts[word] = entry.get(word) or ""
        if not isinstance(texts[word], str):
            raise InvalidParameter(f"invalid {word}: not a text")
    auxiliary = entry.get("AuxiliaryAddresses") or {}
    if not isinstance(auxiliary, Mapping) or not all(
        isinstance(one, str) for pair in auxiliary.items() for one in pair
    ):
        raise InvalidParameter("invalid AuxiliaryAddresses: not a map of texts")
    shown: dict[str, Any] = {word: text for word, text in texts.items() if text}
    if auxiliary:
        shown["AuxiliaryAddresses"] = dict(auxiliary)
    text = texts["Subnet"]
    try:
        interface = ipaddress.ip_interface(text if _PREFIX.fullmatch(text) else "")
    except ValueError:
        wrong.append(f"invalid subnet {text}: invalid CIDR block notation")
        return
    subnet = interface.network
    if subnet.version == 6 and not ipv6:
        found.append(Given(subnet, shown=shown))
        return
    if interface.ip != subnet.network_address:
        wrong.append(f"invalid subnet {text}: it should be {subnet}")
    ip_range = _range(texts["IPRange"], subnet, wrong) if texts["IPRange"] else None
    gateway = None
    if texts["Gateway"]:
        gateway, why = _address(texts["Gateway"], subnet)
        if why:
            wrong.append(f"invalid gateway {texts['Gateway']}: {why}")
    for name, one in auxiliary.items():
        _, why = _address(one, subnet)
        if why:
            wrong.append(f"invalid auxiliary address {name}: {why}")
    found.append(Given(subnet, gateway, ip_range, dict(auxiliary), shown))


def _range(text: str, subnet: Subnet, wrong: list[str]) -> Subnet | None:
    try:
        interface = ipaddress.ip_interface(text if _PREFIX.fullmatch(text) else "")
    except ValueError:
        wrong.append(f"invalid ip-range {text}: invalid CIDR block notation")
        return None
    found = interface.network
    if found.version != subnet.version:
        wrong.append(f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block")
        return None
    if found.prefixlen < subnet.prefixlen:
        wrong.append(f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}")
    if interface.ip != found.network_address:
        wrong.append(f"invalid ip-range {text}: it should be {found}")
    if not found.overlaps(subnet):
        wrong.append(f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range")
    return found


def _address(text: str, subnet: Subnet) -> tuple[Address | None, str]:
    """The address, and what is wrong with it."""
    try:
        address = parse_address(text)
    except ValueError:
        return None, "invalid address"
    if address.version != subnet.version:
        return None, f"parent subnet is an IPv{subnet.version} block"
    if address not in subnet:
        return None, f"parent subnet {subnet} doesn't contain this address"
    return address, ""


def allocate(
    given: Sequence[Given],
    taken: Collection[Subnet],
    foreign: Collection[Subnet],
    pools: Pools,
    *,
    gateway: bool,
    driver: str = "bridge",
) -> Allocated:
    """The subnet of one family, and the addresses in it that are no container's.

    Args:
        given: what was asked for, of that family; nothing lets the subnet be chosen.
        taken: subnets of other networks, which none may overlap.
        foreign: other subnets that the machine knows; one that is asked for may overlap them, as Docker has it.
        gateway: one is needed, even if it was not asked for.

    Raises:
        Forbidden, InvalidParameter, EngineError: with Docker's words.
    """
    if not given:
        given = [Given(free_subnet([*taken, *foreign], pools))]
    done: list[Allocated] = []
    others = list(taken)
    for one in given:
        if any(one.subnet.version == other.version and one.subnet.overlaps(other) for other in others):
            raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")
        others.append(one.subnet)
        done.append(_reserve(one, gateway))
    if len(done) > 1:
        raise Forbidden(f"{driver} driver doesn't support multiple subnets")
    return done[0]


def _reserve(given: Given, gateway: bool) -> Allocated:
    pool = AddressPool(given.subnet, given.ip_range)
    chosen: Address | None = None
    try:
        if given.gateway is not None:
            pool.take(given.gateway)
            chosen = given.gateway
        elif gateway:
            chosen = pool.allocate()
            if chosen is None:
                raise EngineError("no available addresses on this pool")
    except EngineError as error:
        raise EngineError(f"failed to allocate gateway ({given.gateway or ''}): {error}") from None
    for name, text in given.auxiliary.items():
        try:
            pool.take(parse_address(text))
        except EngineError as error:
            raise EngineError(f"failed to allocate secondary ip address ({name}:{text}): {error}") from None
    return Allocated(str(given.subnet), str(chosen or ""), str(given.ip_range or ""), given.auxiliary)


def check_subnet6(subnet: Subnet, gateway: str) -> None:
    """Raises InvalidParameter for what no bridge can have."""
    shown = f"{gateway or subnet.network_address}/{subnet.prefixlen}"
    if isinstance(subnet.network_address, ipaddress.IPv6Address) and subnet.network_address.ipv4_mapped:
        raise InvalidParameter(f"'{shown}' is not a valid IPv6 subnet")
    if subnet.is_multicast:
        raise InvalidParameter(f"multicast subnet '{shown}' is not allowed")
    if subnet != LINK_LOCAL and subnet.version == 6 and LINK_LOCAL.overlaps(subnet):
        raise InvalidParameter(f"'{shown}' clashes with the Link-Local prefix 'fe80::/64'")
    if LOOPBACK in subnet:
        raise InvalidParameter(f"'{shown}' clashes with the loopback address '{LOOPBACK}'")


def pools4(scope: str) -> Pools:
    return GLOBAL_POOLS if scope == "global" else DEFAULT_POOLS
