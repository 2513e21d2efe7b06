"""The engine's packet rules: one table whose rules never change; networks and ports are elements of its sets.

Nothing of it needs br_netfilter: what stays inside one bridge is not filtered. Traffic that a published port sends back
into the bridge that it came from is masqueraded, or else the answer would take the short way past the translation.

In the VM a published port has two numbers: the laptop leads it to one of the engine's choice, which is in ``published`` and comes in
by the uplink alone, or from the streams' service where no hypervisor forwards ports; the one that people know is in ``known``, for
containers that ask at an address of the machine, their gateway for one, and for the machine itself.

Sets of one field are declared by an expression (``typeof``): of those with a ``type``, libnftables from 1.1 on notes something that the
nft(8) of many a host (1.0.6, for one) crashes over when it lists them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from coved.networks.addresses import Subnet
from coved.networks.model import PortProto
from coved.networks.nftables import Nftables

STREAMS = 0xC07E
"""Mark of packets by which the host comes to a published port where no hypervisor forwards it (`coved.streams.inside`)."""
_RULES = """
table inet {table} {{
  set bridges {{ typeof iifname; }}
  set unrouted {{ typeof meta nfproto; }}
  set internal {{ typeof iifname; }}
  set inside {{ type ifname . ifname; }}
  set open4 {{ typeof iifname; }}
  set open6 {{ typeof iifname; }}
  set outbound4 {{ typeof ip saddr; flags interval; }}
  set outbound6 {{ typeof ip6 saddr; flags interval; }}
  set hairpin {{ type ipv4_addr . ipv4_addr; flags interval; }}
  map published_at {{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }}
  map published {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  map known {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  chain guard {{
    type filter hook prerouting priority raw; policy accept;
    ip daddr 127.0.0.0/8 iifname @bridges drop comment "route_localnet is for the host's side only"
  }}
  chain publish {{
    meta l4proto {{ tcp, udp }} dnat ip to meta l4proto . ip daddr . th dport map @published_at
    meta l4proto {{ tcp, udp }} dnat ip to meta l4proto . th dport map @published
  }}
  chain within {{
    meta l4proto {{ tcp, udp }} dnat ip to meta l4proto . th dport map @known
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname @bridges meta nfproto ipv4 fib daddr type local jump within
    {way_in}meta nfproto ipv4 fib daddr type local jump publish
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    {own_ways}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    meta nfproto ipv4 oifname != @bridges ip saddr @outbound4 masquerade
    meta nfproto ipv6 oifname != @bridges ip6 saddr @outbound6 masquerade
    ct status dnat ip saddr . ip daddr @hairpin masquerade
    ip saddr 127.0.0.0/8 oifname @bridges masquerade
  }}
{of_a_guest}  chain forward {{
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    iifname @bridges oifname != @bridges ct state invalid ip saddr @outbound4 drop comment "cannot be masqueraded"
    iifname @bridges oifname != @bridges ct state invalid ip6 saddr @outbound6 drop comment "cannot be masqueraded"
    iifname != @bridges oifname != @bridges meta nfproto @unrouted {unrouted}
    iifname . oifname @inside accept
    iifname @internal drop
    oifname @internal drop
    oifname @bridges ct status dnat accept
    meta nfproto ipv4 iifname != @bridges oifname @open4 accept
    meta nfproto ipv6 iifname != @bridges oifname @open6 accept
    oifname @bridges drop
  }}
}}
"""


_OWN_WAYS = f"""meta mark != {STREAMS} meta nfproto ipv4 fib daddr type local jump within
    meta nfproto ipv4 fib daddr type local jump publish"""
_WAY_OF_STREAMS = f"meta mark {STREAMS} meta nfproto ipv4 fib daddr type local jump publish"
"""Programs of a host that others use as well mean their own services by such a number, and published ports are none of their business."""
_OTHERS = ("cove*", "docker*", "br-*", "podman*", "virbr*")
"""Bridges of other engines, Cove's among them, and of libvirt: who made them needs the machine to be a router, too, and has rules."""
_STRANGERS = "  chain strangers {{\n{}    drop\n  }}\n".format(
    "".join(f'    {way} "{name}" return\n' for name in _OTHERS for way in ("iifname", "oifname"))
)
_USERS = """  chain users {
    type filter hook output priority filter; policy accept;
    oifname @bridges meta skuid != 0 ct state new drop comment "containers are their owner's, and root's"
  }
"""
"""Published ports are on none of such a machine's addresses, but the containers' own are routed there, and it may have other users."""


@dataclass(frozen=True)
class BridgeRule:
    """What the rules need to know of a network."""

    bridge: str
    subnets: tuple[Subnet, ...]
    internal: bool = False
    masquerade: bool = True
    apart: bool = False
    """Its containers do not reach each other: what is not routed, the bridge itself keeps back."""
    modes: tuple[str, str] = ("nat", "nat")
    """Gateway modes of IPv4 and IPv6."""


@dataclass(frozen=True)
class PortRule:
    """Packets to ``address:port`` of this machine go to the container; an ``address`` of "" is any. Both are IPv4.

    Args:
        known: only those of containers and of the machine itself, whose number ``port`` is the one that people know.
    """

    proto: PortProto
    address: str
    port: int
    container_address: str
    container_port: int
    known: bool = False

    @property
    def _map(self) -> str:
        return "published_at" if self.address else "known" if self.known else "published"

    @property
    def _key(self) -> str:
        return f"{self.proto} . {self.address} . {self.port}" if self.address else f"{self.proto} . {self.port}"

    def added(self, table: str) -> str:
        value = f"{self.container_address} . {self.container_port}"
        return f"add element inet {table} {self._map} {{ {self._key} : {value} }}"

    def deleted(self, table: str) -> str:
        return f"delete element inet {table} {self._map} {{ {self._key} }}"


class Firewall:
    """The table named ``table``; every method is one transaction, and raises FirewallError when nothing was changed.

    Args:
        uplink: the device that published ports are reached by, when there is only one, and by none else but those that are
            ``known``: what was asked for on the computer's own localhost alone, containers of other networks must not reach
            at their gateway. "" is any.
        beside: others use this machine as well, and come neither to a published port nor to a container; from outside of containers only
            the streams and root do.
        dry: all is as it would be, but that nothing is changed.
    """

    def __init__(self, table: str, uplink: str = "", *, beside: bool = False, dry: bool = False) -> None:
        self._table = table
        self._beside = beside
        self._way_in = f'iifname "{uplink}" ' if uplink else ""
        self._nft = Nftables(dry=dry)

    def reset(self, bridges: Iterable[BridgeRule], ports: Iterable[PortRule], unrouted: Iterable[str] = ()) -> None:
        """Puts the table up anew with these networks and ports, whatever an earlier engine left in it.

        Args:
            unrouted: as of :meth:`route_nothing_else`.
        """
        table = self._table
        lines = [f"add table ip {table}", f"delete table ip {table}"]  # what was before there was IPv6
        lines += [
            f"add table inet {table}",
            f"delete table inet {table}",
            _RULES.format(
                table=table,
                way_in=self._way_in,
                own_ways=_WAY_OF_STREAMS if self._beside else _OWN_WAYS,
                of_a_guest=_STRANGERS + _USERS if self._beside else "",
                unrouted="jump strangers" if self._beside else "drop",
            ),
        ]
        for bridge in bridges:
            lines += self._bridge("add", bridge)
        lines += {port.deleted(table): port.added(table) for port in ports}.values()  # two for a place would fail all
        lines += [self._unrouted(family) for family in unrouted]
        self._nft.run("\n".join(lines))

    def route_nothing_else(self, family: str) -> None:
        """Of a family ("ipv4", "ipv6"), packets that neither come from a network nor go to one do not go through this machine."""
        self._nft.run(self._unrouted(family))

    def _unrouted(self, family: str) -> str:
        return f"add element inet {self._table} unrouted {{ {family} }}"

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
        elements = {"bridges": name}
        if not rule.apart:
            elements["inside"] = f"{name} . {name}"
        if rule.internal:
            elements["internal"] = name
        for subnet in rule.subnets:
            family = subnet.version
            if family == 4:
                elements["hairpin"] = f"{subnet} . {subnet}"
            if rule.masquerade and not rule.internal:
                elements[f"outbound{family}"] = str(subnet)
            if rule.modes[family == 6] == "nat-unprotected":
                elements[f"open{family}"] = name
        return [f"{verb} element inet {self._table} {key} {{ {value} }}" for key, value in elements.items()]


def rehearse() -> None:
    """Has a table with one network put up dry: all of libnftables has run once. Raises FirewallError."""
    firewall = Firewall("rehearsal", "uplink", dry=True)
    try:
        firewall.reset([BridgeRule("rehearsal", (ipaddress.ip_network("192.0.2.0/24"),))], [], ["ipv4"])
    finally:
        firewall.close()
