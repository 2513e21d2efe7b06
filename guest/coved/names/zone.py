"""Who is where on one network, by name. A name may be several containers', and an address has one name."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def folded(name: str) -> str:
    """As a query has it: octets as in latin-1, without capital letters (RFC 4343) or a dot at its end."""
    return name.encode().lower().decode("latin-1").rstrip(".")


@dataclass(frozen=True)
class Host:
    """A container's place on the network. The first of its names is the one that its addresses have."""

    addresses: tuple[str, ...]
    """Of either family."""
    names: tuple[str, ...]


class Zone:
    """All places on one network, which is called ``name``."""

    def __init__(self, name: str, hosts: Iterable[Host]) -> None:
        self.name = name
        self._suffix = f".{folded(name)}"
        self._addresses: dict[str, list[bytes]] = {}
        self._names: dict[str, str] = {}
        for host in hosts:
            packed = [ipaddress.ip_address(address).packed for address in host.addresses]
            for one in {folded(one) for one in host.names} - {""}:
                self._addresses.setdefault(one, []).extend(packed)
            if host.names:
                self._names |= dict.fromkeys(host.addresses, f"{host.names[0]}.{name}")

    def addresses(self, name: str) -> Sequence[bytes]:
        """Those of a folded name, with the network's name at its end or without: 4 octets or 16 each."""
        found = self._addresses.get(name)
        if found is None and name.endswith(self._suffix):
            found = self._addresses.get(name.removesuffix(self._suffix))
        return found or ()

    def name_of(self, address: str) -> str:
        """The name that an address has, with the network's name at its end; "" when nobody has the address."""
        return self._names.get(address, "")
