"""The VM's own address, as QEMU's user networking wants it, by ioctl (netdevice(7)): no program has to be started. Elsewhere it is the
network's to give: busybox's udhcpc asks for it, and stays to keep it.
"""

import fcntl
import os
import socket
import struct
import time

from coved.boot.console import BootError, say
from coved.boot.system import run

ADDRESS, NETMASK, GATEWAY, NAMESERVER = "10.0.2.15", "255.255.255.0", "10.0.2.2", "10.0.2.3"

_SIOCADDRT, _SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x890B, 0x8914, 0x8916, 0x891C
_IFF_UP, _IFF_RUNNING = 1, 0x40
_RTF_UP, _RTF_GATEWAY = 1, 2


ASKS_NETWORK = "cove.network=dhcp"
"""On the kernel's command line: of a disk that UEFI boots (cove.image.bootdisk)."""
COMES_S, AGAIN_S = 10.0, 0.1
"""Elsewhere than on virtio a network card may come some time after its driver."""
ASKS = 10
"""How often, a second apart, before the machine goes on without an address; it is asked for further on."""
_SCRIPT = "/run/cove.lease"
_LEASE = """#!/bin/sh
case $1 in
bound) ip address flush dev "$interface" && ip address add "$ip/$mask" broadcast + dev "$interface" ;;
renew) ;;
*) exit 0 ;;
esac
for gateway in $router; do ip route replace default via "$gateway" dev "$interface" && break; done
for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf.new
mv /etc/resolv.conf.new /etc/resolv.conf
"""


def up() -> None:
    """Bring up loopback and the first network card, and write resolv.conf. Raises ``BootError``."""
    with open("/proc/cmdline") as file:
        asks = ASKS_NETWORK in file.read().split()
    card = _card(COMES_S if asks else 0.0)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            _flags(control, "lo")
            if not asks:
                _address(control, _SIOCSIFADDR, card, ADDRESS)
                _address(control, _SIOCSIFNETMASK, card, NETMASK)
            _flags(control, card)
            if not asks:
                fcntl.ioctl(control, _SIOCADDRT, _default_route())
    except OSError as error:
        raise BootError(f"the network card {card} cannot be used: {error.strerror}") from error
    if asks:
        _ask(card)
    else:
        with open("/etc/resolv.conf", "w") as file:
            file.write(f"nameserver {NAMESERVER}\n")


def _card(wait_s: float) -> str:
    left = int(wait_s / AGAIN_S)
    while True:
        cards = [name for name in os.listdir("/sys/class/net") if os.path.exists(f"/sys/class/net/{name}/device")]
        if cards:
            return min(cards)
        if left <= 0:
            raise BootError("there is no network card")
        left -= 1
        time.sleep(AGAIN_S)


def _ask(card: str) -> None:
    """Return when the network has given an address, or takes its time; then it is asked in the background."""
    try:
        with open(os.open(_SCRIPT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700), "w") as file:
            file.write(_LEASE)
        open("/etc/resolv.conf", "a").close()
    except OSError as error:
        raise BootError(f"the network cannot be asked for an address: {error.strerror}") from error
    words = ("udhcpc", "-b", "-i", card, "-t", str(ASKS), "-T", "1", "-A", "3", "-s", _SCRIPT)
    if run("/usr/bin/busybox", *words):
        say("the network was not asked for an address")


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
