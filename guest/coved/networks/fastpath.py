"""A short way for the packets of published ports: the kernel's flowtable (Documentation/networking/nf_flowtable.rst).

A connection from the laptop that has been translated and let through once goes between the uplink and the bridge without routing,
rules and connection tracking, which cost an emulated processor as much again as the connection itself. What ends a connection (FIN,
RST) and what is idle for half a minute goes the long way. It has a table of its own: a kernel that cannot do it refuses this
table alone, and everything works without.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from coved.networks.nftables import FirewallError, Nftables

log = logging.getLogger(__name__)

_RULES = """
table ip {table} {{
  flowtable fast {{ hook ingress priority filter; devices = {{ {devices} }}; }}
  chain forward {{
    type filter hook forward priority filter + 10; policy accept;
    iifname "{uplink}" meta l4proto tcp ct state established ct status dnat flow add @fast
    oifname "{uplink}" meta l4proto tcp ct state established ct status dnat flow add @fast
  }}
}}
"""


class FastPath:
    """Between ``uplink`` (name of a device) and bridges, beside the firewall's ``table``. What fails is logged: it is a loss of
    speed, and of nothing else.

    The kernel takes a bridge that is removed out of the table by itself.
    """

    def __init__(self, table: str, uplink: str) -> None:
        self._table = f"{table}-fast"
        self._uplink = uplink
        self._nft = Nftables()
        self._works = False

    def reset(self, bridges: Iterable[str]) -> None:
        """Puts the table up anew; connections that are open come into it with their next packet."""
        devices = ", ".join(f'"{name}"' for name in (self._uplink, *bridges))
        lines = [f"add table ip {self._table}", f"delete table ip {self._table}"]
        self._works = self._run(
            "\n".join([*lines, _RULES.format(table=self._table, devices=devices, uplink=self._uplink)])
        )

    def add(self, bridge: str) -> None:
        if self._works:
            devices = f'{{ hook ingress priority filter; devices = {{ "{bridge}" }}; }}'
            self._run(f"add flowtable ip {self._table} fast {devices}")

    def close(self) -> None:
        """Lets go of the library; the table stays."""
        self._nft.close()

    def _run(self, commands: str) -> bool:
        try:
            self._nft.run(commands)
        except FirewallError as error:
            log.warning("published ports are slower than they could be: %s", error)
            return False
        return True
