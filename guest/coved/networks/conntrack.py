"""Forgets connections of the kernel's connection tracking (ctnetlink), for UDP, which has no end that the kernel sees.

A client that went on sending from one port would otherwise be led to where a published port pointed before.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection
from ipaddress import IPv4Address

from coved.networks.rtnetlink import Netlink, Request, attribute, attributes

# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h
_NETLINK_NETFILTER = 12
_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2
_NFGENMSG = struct.Struct("=BBH")
_TUPLE_ORIG, _TUPLE_REPLY, _ID = 1, 2, 12
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_V4_SRC = 1
_PROTO_NUM, _PROTO_DST_PORT = 1, 3
_NLA_F_NESTED = 0x8000
_HEADER = _NFGENMSG.pack(socket.AF_INET, 0, 0)


def forget_udp(ports: Collection[int], containers: Collection[IPv4Address]) -> None:
    """Deletes the UDP entries that were sent to one of ``ports``, or that one of ``containers`` answers.

    Raises:
        OSError: the kernel has no connection tracking, or refuses to show it.
    """
    addresses = {address.packed for address in containers}
    with Netlink(_NETLINK_NETFILTER) as netlink:
        doomed = []
        for body in netlink.dump(_GET, _HEADER):
            tags = dict(attributes(body[_NFGENMSG.size :]))
            original, reply = _tuple(tags.get(_TUPLE_ORIG, b"")), _tuple(tags.get(_TUPLE_REPLY, b""))
            if original[1] != socket.IPPROTO_UDP or not (original[2] in ports or reply[0] in addresses):
                continue
            entry = attribute(_TUPLE_ORIG | _NLA_F_NESTED, tags[_TUPLE_ORIG])
            if _ID in tags:  # so that a newer connection with the same addresses stays
                entry += attribute(_ID, tags[_ID])
            doomed.append(Request(_DELETE, 0, _HEADER + entry, "forget a UDP connection"))
        netlink.run(doomed, ignore=(errno.ENOENT,))


def _tuple(data: bytes) -> tuple[bytes, int, int]:
    """Source address, protocol and destination port of a tuple."""
    tags = dict(attributes(data))
    addresses, proto = dict(attributes(tags.get(_TUPLE_IP, b""))), dict(attributes(tags.get(_TUPLE_PROTO, b"")))
    port = proto.get(_PROTO_DST_PORT, b"\0\0")
    return addresses.get(_IP_V4_SRC, b""), (proto.get(_PROTO_NUM) or b"\0")[0], int.from_bytes(port[:2], "big")
