"""The VM's own address, as QEMU's user networking wants it. By ioctl (netdevice(7)): no program has to be started."""

import fcntl
import os
import socket
import struct

from coved.boot.console import BootError

ADDRESS, NETMASK, GATEWAY, NAMESERVER = "10.0.2.15", "255.255.255.0", "10.0.2.2", "10.0.2.3"

_SIOCADDRT, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x890B, 0x8914, 0x8916, 0x891C
_IFF_UP, _IFF_RUNNING = 1, 0x40
_RTF_UP, _RTF_GATEWAY = 1, 2


def up() -> None:
    """Bring up loopback and the first network card, and write resolv.conf. Raises ``BootError``."""
    cards = sorted(name for name in os.listdir("/sys/class/net") if os.path.exists(f"/sys/class/net/{name}/device"))
    if not cards:
        raise BootError("there is no network card")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            _flags(control, "lo")
            _address(control, _SIOCSIFADDR, cards[0], ADDRESS)
            _address(control, _SIOCSIFNETMASK, cards[0], NETMASK)
            _flags(control, cards[0])
            fcntl.ioctl(control, _SIOCADDRT, _default_route())
    except OSError as error:
        raise BootError(f"the network card {cards[0]} cannot be used: {error.strerror}") from error
    with open("/etc/resolv.conf", "w") as file:
        file.write(f"nameserver {NAMESERVER}\n")


def _sockaddr(address: str) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def _flags(control: socket.socket, name: str) -> None:
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("=16sH22x", name.encode(), _IFF_UP | _IFF_RUNNING))


def _address(control: socket.socket, request: int, name: str, address: str) -> None:
    fcntl.ioctl(control, request, struct.pack("=16s16s8x", name.encode(), _sockaddr(address)))


def _default_route() -> bytes:
    """struct rtentry of route(4)."""
    any_address = _sockaddr("0.0.0.0")
    return struct.pack(
        "@L16s16s16sHhLPhPLLH",
        0,
        any_address,
        _sockaddr(GATEWAY),
        any_address,
        _RTF_UP | _RTF_GATEWAY,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    )
