"""The sockets of a container's DNS server, in the container's network namespace. Blocking calls, for a thread of their own.

The server is at 127.0.0.11, port 53, but does not take that port from the container, which may be a DNS server itself: its
sockets have ports of the kernel's choice, and packet rules in the namespace exchange the numbers. They do so without
connection tracking, which would otherwise begin for all packets of the container; and a client whose query finds no server
for a moment is told nothing, and asks again.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from coved.networks import namespaces
from coved.networks.nftables import Nftables

ADDRESS = "127.0.0.11"
_BACKLOG = 64
_SO_RCVBUFFORCE = 33  # socket(7); Python has no name for it
_RECEIVE_BYTES = 512 << 10
"""Queries that wait while the engine does something else, or is started anew; twice this with what the kernel adds."""
_RULES = """
add table ip cove_names
delete table ip cove_names
table ip cove_names {{
  chain exchange {{
    type filter hook output priority raw; policy accept;
    ip daddr {address} udp dport 53 udp dport set {udp}
    ip daddr {address} tcp dport 53 tcp dport set {tcp}
    ip saddr {address} udp sport {udp} udp sport set 53
    ip saddr {address} tcp sport {tcp} tcp sport set 53
  }}
}}
"""


def make(namespace: Path) -> tuple[socket.socket, socket.socket]:
    """Makes the two, UDP and TCP (listening), neither of them blocking, and leads port 53 to them.

    Raises:
        OSError: the kernel refuses. FirewallError: the rules cannot be had.
    """
    with contextlib.ExitStack() as undo:
        with namespaces.visiting(namespace):
            udp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            tcp = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            for one in (udp, tcp):
                one.setblocking(False)
                one.bind((ADDRESS, 0))
            with contextlib.suppress(PermissionError):
                udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BYTES)
            tcp.listen(_BACKLOG)
            ports = {"udp": udp.getsockname()[1], "tcp": tcp.getsockname()[1]}
            with contextlib.closing(Nftables()) as nftables:
                nftables.run(_RULES.format(address=ADDRESS, **ports))
        undo.pop_all()
    return udp, tcp


def outgoing(namespace: Path, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    """A socket, not blocking, whose packets go the container's way. Raises OSError."""
    with namespaces.visiting(namespace):
        made = socket.socket(family, kind)
    made.setblocking(False)
    return made
