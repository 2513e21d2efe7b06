"""The part of rtnetlink(7) that the engine needs: links, addresses and routes, many requests in one system call.

A library does this too, but importing one costs more than everything that a container's network takes (docs/decisions).
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TypeAlias

from coved.networks.addresses import Address, Subnet

Interface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_NLMSG = struct.Struct("=IHHII")
_NLATTR = struct.Struct("=HH")
_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")

# linux/netlink.h
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_CREATE_EXCL = 0x400 | 0x200
NLM_F_CREATE_REPLACE = 0x400 | 0x100
_NLM_F_ACK_TLVS = 0x200
_NLM_F_CAPPED = 0x100
_NLMSGERR_ATTR_MSG = 1
_NLA_TYPE_MASK = 0x3FFF
_NLA_F_NESTED = 0x8000
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11

# linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/veth.h
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_SETLINK = 16, 17, 18, 19
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTM_NEWNEIGH = 28
_AF_BRIDGE, _NTF_MASTER, _NUD_NOARP, _NDA_LLADDR = 7, 4, 0x40, 2
_IFF_UP = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_PROTINFO, _IFLA_BRPORT_STATE, _IFLA_BRPORT_ISOLATED = 12, 1, 33
_BR_STATE_DISABLED = 0  # linux/if_bridge.h
_IFLA_LINK, _IFLA_IFALIAS, _RT_SCOPE_LINK = 5, 20, 253
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_IFA_F_NODAD = 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_IP6_RT_PRIO_USER = 1024  # linux/ipv6_route.h
_RT_TABLE_MAIN, _RTPROT_BOOT, _RT_SCOPE_UNIVERSE, _RTN_UNICAST = 254, 3, 0, 1

_AT_ONCE = 128
"""The answers to one batch must have room in the socket's buffer, or the kernel drops them."""
LOOPBACK_INDEX = 1
"""The loopback is the first link of every network namespace."""


@dataclass(frozen=True)
class Link:
    """A network device, as RTM_GETLINK tells it."""

    index: int
    name: str
    master: int
    """Index of the bridge that it is a port of; 0 for none."""
    kind: str
    """``bridge``, ``veth``, ...; empty for hardware."""
    up: bool
    alias: str = ""
    """A text that somebody gave it."""


def attribute(kind: int, payload: bytes) -> bytes:
    """One netlink attribute, padded to four bytes."""
    length = _NLATTR.size + len(payload)
    return _NLATTR.pack(length, kind) + payload + b"\0" * (-length % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in ``data``; a malformed rest is left out."""
    offset = 0
    while offset + _NLATTR.size <= len(data):
        length, kind = _NLATTR.unpack_from(data, offset)
        if length < _NLATTR.size or offset + length > len(data):
            return
        yield kind & _NLA_TYPE_MASK, data[offset + _NLATTR.size : offset + length]
        offset += (length + 3) & ~3


@dataclass(frozen=True)
class Request:
    """A message without its header."""

    type: int
    flags: int
    body: bytes
    what: str
    """Names the request in an error."""


def add_bridge(name: str, mac: str, mtu: int = 1500) -> Request:
    body = (
        _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, _IFF_UP, _IFF_UP)
        + _name(name)
        + attribute(_IFLA_ADDRESS, _mac(mac))
        + attribute(_IFLA_MTU, struct.pack("=I", mtu))
        + attribute(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, b"bridge"))
    )
    return Request(_RTM_NEWLINK, NLM_F_CREATE_EXCL, body, f"add bridge {name}")


def add_veth(name: str, bridge_index: int, peer: str, peer_mac: str, peer_netns: int, mtu: int = 1500) -> Request:
    """A veth pair: ``name``, up and a port of the bridge; ``peer``, down, in the namespace of that file descriptor."""
    peer_link = (
        _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        + _name(peer)
        + attribute(_IFLA_ADDRESS, _mac(peer_mac))
        + attribute(_IFLA_MTU, struct.pack("=I", mtu))
        + attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_netns))
    )
    info = attribute(_IFLA_INFO_KIND, b"veth") + attribute(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, peer_link))
    body = (
        _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, _IFF_UP, _IFF_UP)
        + _name(name)
        + attribute(_IFLA_MTU, struct.pack("=I", mtu))
        + attribute(_IFLA_MASTER, struct.pack("=I", bridge_index))
        + attribute(_IFLA_LINKINFO, info)
    )
    return Request(_RTM_NEWLINK, NLM_F_CREATE_EXCL, body, f"add veth {name}")


def add_device(name: str, kind: str, data: bytes, parent: int = 0, mac: str = "", netns: int | None = None) -> Request:
    """A device of another kind, down.

    Args:
        data: attributes of the kind's own (IFLA_INFO_DATA).
        parent: index of the device that it lies on.
        mac: "" leaves it to the kernel.
        netns: file descriptor of the namespace that it is to be in; ``parent`` is one of this one.
    """
    body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _name(name)
    if mac:
        body += attribute(_IFLA_ADDRESS, _mac(mac))
    if parent:
        body += attribute(_IFLA_LINK, struct.pack("=I", parent))
    if netns is not None:
        body += attribute(_IFLA_NET_NS_FD, struct.pack("=I", netns))
    info = attribute(_IFLA_INFO_KIND, kind.encode())
    if data:
        info += attribute(_IFLA_INFO_DATA, data)
    return Request(_RTM_NEWLINK, NLM_F_CREATE_EXCL, body + attribute(_IFLA_LINKINFO, info), f"add {kind} {name}")


def change_device(index: int, name: str, alias: str, mac: str = "") -> Request:
    """Gives a device that is down another name, an alias, and another address."""
    body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, 0, 0) + _name(name)
    body += attribute(_IFLA_IFALIAS, alias.encode())
    if mac:
        body += attribute(_IFLA_ADDRESS, _mac(mac))
    return Request(_RTM_NEWLINK, 0, body, f"name link {index} {name}")


def set_up(index: int) -> Request:
    return Request(
        _RTM_NEWLINK, 0, _IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP), f"set link {index} up"
    )


def delete_link(name: str) -> Request:
    body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _name(name)
    return Request(_RTM_DELLINK, 0, body, f"delete link {name}")


def add_address(index: int, interface: Interface) -> Request:
    """IPv6's is there at once: no neighbour is asked whether it has it (RFC 4862, 5.4), for the engine knows."""
    return Request(_RTM_NEWADDR, NLM_F_CREATE_EXCL, _address(index, interface), f"add address {interface}")


def delete_address(index: int, interface: Interface) -> Request:
    """With it goes the route to its subnet."""
    return Request(_RTM_DELADDR, 0, _address(index, interface), f"delete address {interface}")


def _address(index: int, interface: Interface) -> bytes:
    address = interface.ip.packed
    if interface.version == 6:
        return (
            _IFADDRMSG.pack(socket.AF_INET6, interface.network.prefixlen, _IFA_F_NODAD, 0, index)
            + attribute(_IFA_LOCAL, address)
            + attribute(_IFA_ADDRESS, address)
        )
    return (
        _IFADDRMSG.pack(socket.AF_INET, interface.network.prefixlen, 0, 0, index)
        + attribute(_IFA_LOCAL, address)
        + attribute(_IFA_ADDRESS, address)
        + attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
    )


def replace_default_route(index: int, gateway: Address) -> Request:
    """The one that there is, if there is one, is no more."""
    family = socket.AF_INET6 if gateway.version == 6 else socket.AF_INET
    body = _RTMSG.pack(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, 0)
    body += attribute(_RTA_GATEWAY, gateway.packed) + _way(index, family)
    return Request(_RTM_NEWROUTE, NLM_F_CREATE_REPLACE, body, f"add default route by {gateway}")


def _way(index: int, family: socket.AddressFamily) -> bytes:
    way = attribute(_RTA_OIF, struct.pack("=I", index))
    if family == socket.AF_INET6:  # without it, the kernel would not find the one to replace
        way += attribute(_RTA_PRIORITY, struct.pack("=I", _IP6_RT_PRIO_USER))
    return way


def keep_apart(index: int) -> Request:
    """The bridge's port ``index`` reaches the bridge, but no other port of which this was asked."""
    return _bridge_port(index, attribute(_IFLA_BRPORT_ISOLATED, b"\x01"), f"keep link {index} apart")


def cut_off(index: int) -> Request:
    """Nothing passes the bridge's port ``index`` any more. To take it off the bridge does the same and a thousand times as slowly,
    for the kernel then waits for all processors."""
    return _bridge_port(index, attribute(_IFLA_BRPORT_STATE, bytes([_BR_STATE_DISABLED])), f"cut off link {index}")


def _bridge_port(index: int, change: bytes, what: str) -> Request:
    body = _IFINFOMSG.pack(_AF_BRIDGE, 0, index, 0, 0) + attribute(_IFLA_PROTINFO | _NLA_F_NESTED, change)
    return Request(_RTM_SETLINK, 0, body, what)


def add_device_route(index: int, family: socket.AddressFamily = socket.AF_INET) -> Request:
    """A default route by a device that takes all packets, whoever they are for; the one that there is, is no more."""
    body = _RTMSG.pack(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, _RT_SCOPE_LINK, _RTN_UNICAST, 0)
    return Request(
        _RTM_NEWROUTE, NLM_F_CREATE_REPLACE, body + _way(index, family), f"add default route by device {index}"
    )


def forward_to(index: int, mac: str) -> Request:
    """Tells the bridge that ``mac`` is behind its port ``index`` now, whichever port it was behind before.

    The entry is a static one, for the bridge takes no other for a port whose far end is still down.
    """
    body = _NDMSG.pack(_AF_BRIDGE, index, _NUD_NOARP, _NTF_MASTER, 0) + attribute(_NDA_LLADDR, _mac(mac))
    return Request(_RTM_NEWNEIGH, NLM_F_CREATE_REPLACE, body, f"forward {mac}")


class NetlinkError(OSError):
    """The kernel refused a request; ``errno`` says why."""


class Netlink:
    """A netlink socket of the network namespace that the calling thread is in when it is made."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(10)  # the kernel answers at once; this bounds the wait should it ever not
            for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
        except OSError:
            self._socket.close()
            raise
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, requests: Sequence[Request], ignore: Sequence[int] = ()) -> None:
        """Sends all requests, many at once, and waits for every answer.

        The kernel works through them in order and goes on after one that failed.

        Args:
            ignore: errno values that are no failure.

        Raises:
            NetlinkError: of the first request that failed.
        """
        failure: NetlinkError | None = None
        for start in range(0, len(requests), _AT_ONCE):
            failed = self._run(requests[start : start + _AT_ONCE], ignore)
            failure = failure or failed
        if failure:
            raise failure

    def _run(self, requests: Sequence[Request], ignore: Sequence[int]) -> NetlinkError | None:
        first = self._sequence + 1
        data = b"".join(self._message(request, NLM_F_ACK) for request in requests)
        self._socket.send(data)
        waiting = len(requests)
        failure: NetlinkError | None = None
        while waiting:
            for kind, sequence, flags, body in self._receive():
                if kind != NLMSG_ERROR or not first <= sequence < first + len(requests):
                    continue
                waiting -= 1
                error = _error(requests[sequence - first].what, flags, body)
                if error and error.errno not in ignore and failure is None:
                    failure = error
        return failure

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all objects that a dump request lists."""
        self._socket.send(self._message(Request(kind, 0, body, ""), NLM_F_DUMP))
        sequence = self._sequence
        found: list[bytes] = []
        while True:
            for answer, number, flags, payload in self._receive():
                if number != sequence:
                    continue
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    raise _error(f"dump {kind}", flags, payload) or NetlinkError(errno.EPROTO, "unexpected answer")
                found.append(payload)

    def links(self) -> list[Link]:
        """All network devices of the namespace."""
        links = []
        for body in self.dump(_RTM_GETLINK, _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
            _, _, index, flags, _ = _IFINFOMSG.unpack_from(body)
            name, master, kind, alias = "", 0, "", ""
            for tag, value in attributes(body[_IFINFOMSG.size :]):
                if tag == _IFLA_IFNAME:
                    name = _text(value)
                elif tag == _IFLA_MASTER:
                    (master,) = struct.unpack("=I", value)
                elif tag == _IFLA_IFALIAS:
                    alias = _text(value)
                elif tag == _IFLA_LINKINFO:
                    kind = next((_text(v) for t, v in attributes(value) if t == _IFLA_INFO_KIND), "")
            links.append(Link(index, name, master, kind, bool(flags & _IFF_UP), alias))
        return links

    def addresses(self) -> list[tuple[int, Interface]]:
        """All addresses of the namespace, each with the index of its device."""
        found: list[tuple[int, Interface]] = []
        for body in self.dump(_RTM_GETADDR, _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
            _, prefix, _, _, index = _IFADDRMSG.unpack_from(body)
            tags = dict(attributes(body[_IFADDRMSG.size :]))
            packed = tags.get(_IFA_LOCAL) or tags.get(_IFA_ADDRESS)
            if packed:
                found.append((index, ipaddress.ip_interface((packed, prefix))))
        return found

    def routes(self) -> list[Subnet]:
        """Destinations of the main table's routes, the default ones left out."""
        found: list[Subnet] = []
        for body in self.dump(_RTM_GETROUTE, _RTMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0)):
            _, length, _, _, table, *_ = _RTMSG.unpack_from(body)
            tags = dict(attributes(body[_RTMSG.size :]))
            if _RTA_TABLE in tags:
                (table,) = struct.unpack("=I", tags[_RTA_TABLE])
            if table == _RT_TABLE_MAIN and length and _RTA_DST in tags:
                found.append(ipaddress.ip_network((tags[_RTA_DST], length)))
        return found

    def _message(self, request: Request, flags: int) -> bytes:
        self._sequence += 1
        length = _NLMSG.size + len(request.body)
        header = _NLMSG.pack(length, request.type, NLM_F_REQUEST | request.flags | flags, self._sequence, 0)
        return header + request.body + b"\0" * (-length % 4)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = self._socket.recv(1 << 16)
        offset = 0
        while offset + _NLMSG.size <= len(data):
            length, kind, flags, sequence, _ = _NLMSG.unpack_from(data, offset)
            if length < _NLMSG.size or offset + length > len(data):
                return
            yield kind, sequence, flags, data[offset + _NLMSG.size : offset + length]
            offset += (length + 3) & ~3


def interface_index(name: str) -> int:
    """The index of a device in the calling thread's namespace; 0 when there is none."""
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(name)
    return 0


def _error(what: str, flags: int, body: bytes) -> NetlinkError | None:
    (code,) = struct.unpack_from("=i", body)
    if code == 0:
        return None
    text = os.strerror(-code)
    if flags & _NLM_F_ACK_TLVS and flags & _NLM_F_CAPPED:
        for tag, value in attributes(body[4 + _NLMSG.size :]):
            if tag == _NLMSGERR_ATTR_MSG:
                text = f"{text}: {_text(value)}"
    return NetlinkError(-code, f"cannot {what}: {text}")


def _name(name: str) -> bytes:
    return attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
