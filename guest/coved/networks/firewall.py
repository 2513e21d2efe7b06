"""The engine's packet rules: one table whose rules never change; networks and ports are elements of its sets.

Nothing of it needs br_netfilter: what stays inside one bridge is not filtered. Traffic that a published port sends back
into the bridge that it came from is masqueraded, or else the answer would take the short way past the translation.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from coved.networks.model import PortProto
from coved.networks.nftables import Nftables

_RULES = """
table ip {table} {{
  set bridges {{ type ifname; }}
  set internal {{ type ifname; }}
  set inside {{ type ifname . ifname; }}
  set outbound {{ type ipv4_addr; flags interval; }}
  set hairpin {{ type ipv4_addr . ipv4_addr; flags interval; }}
  map published_at {{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }}
  map published {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  chain guard {{
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop comment "route_localnet is for the host's side only"
  }}
  chain publish {{
    meta l4proto {{ tcp, udp }} dnat ip to meta l4proto . ip daddr . th dport map @published_at
    meta l4proto {{ tcp, udp }} dnat ip to meta l4proto . th dport map @published
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump publish
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump publish
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @outbound oifname != @bridges masquerade
    ct status dnat ip saddr . ip daddr @hairpin masquerade
    ip saddr 127.0.0.0/8 oifname @bridges masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    iifname . oifname @inside accept
    iifname @internal drop
    oifname @internal drop
    oifname @bridges ct status dnat accept
    oifname @bridges drop
  }}
}}
"""


@dataclass(frozen=True)
class BridgeRule:
    """What the rules need to know of a network."""

    bridge: str
    subnet: ipaddress.IPv4Network
    internal: bool = False
    masquerade: bool = True


@dataclass(frozen=True)
class PortRule:
    """Packets to ``address:port`` of this machine go to the container; an ``address`` of "" is any."""

    proto: PortProto
    address: str
    port: int
    container_address: str
    container_port: int

    @property
    def _map(self) -> str:
        return "published_at" if self.address else "published"

    @property
    def _key(self) -> str:
        return f"{self.proto} . {self.address} . {self.port}" if self.address else f"{self.proto} . {self.port}"

    def added(self, table: str) -> str:
        value = f"{self.container_address} . {self.container_port}"
        return f"add element ip {table} {self._map} {{ {self._key} : {value} }}"

    def deleted(self, table: str) -> str:
        return f"delete element ip {table} {self._map} {{ {self._key} }}"


class Firewall:
    """The table named ``table``; every method is one transaction, and raises FirewallError when nothing was changed."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._nft = Nftables()

    def reset(self, bridges: Iterable[BridgeRule], ports: Iterable[PortRule]) -> None:
        """Puts the table up anew with these networks and ports, whatever an earlier engine left in it."""
        table = self._table
        lines = [f"add table ip {table}", f"delete table ip {table}", _RULES.format(table=table)]
        for bridge in bridges:
            lines += self._bridge("add", bridge)
        lines += [port.added(table) for port in ports]
        self._nft.run("\n".join(lines))

    def add_bridge(self, bridge: BridgeRule) -> None:
        self._nft.run("\n".join(self._bridge("add", bridge)))

    def remove_bridge(self, bridge: BridgeRule) -> None:
        self._nft.run("\n".join(self._bridge("delete", bridge)))

    def add_ports(self, ports: Iterable[PortRule]) -> None:
        if lines := [port.added(self._table) for port in ports]:
            self._nft.run("\n".join(lines))

    def remove_ports(self, ports: Iterable[PortRule]) -> None:
        if lines := [port.deleted(self._table) for port in ports]:
            self._nft.run("\n".join(lines))

    def close(self) -> None:
        """Lets go of the library; the rules stay."""
        self._nft.close()

    def _bridge(self, verb: str, rule: BridgeRule) -> list[str]:
        name = f'"{rule.bridge}"'
        elements = {
            "bridges": name,
            "inside": f"{name} . {name}",
            "hairpin": f"{rule.subnet} . {rule.subnet}",
        }
        if rule.internal:
            elements["internal"] = name
        elif rule.masquerade:
            elements["outbound"] = str(rule.subnet)
        return [f"{verb} element ip {self._table} {key} {{ {value} }}" for key, value in elements.items()]
