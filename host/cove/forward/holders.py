"""Why a port cannot be bound, and who has it."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from cove.errors import DriverError, PortInUse

_LISTENING, _UNCONNECTED = "0A", "07"  # include/net/tcp_states.h: TCP_LISTEN; TCP_CLOSE, which a bound UDP socket is in


def refusal(proto: str, address: str, port: int) -> DriverError:
    """The error for a port that the hypervisor could not bind: `PortInUse` that names who has it, or what else forbids it.

    Blocks for as long as it takes to look through all processes (tens of milliseconds).
    """
    number = _bind_error(proto, address, port)
    # Other reasons than a port in use are told in docker's words, which are Go's.
    if number in (errno.EACCES, errno.EPERM):
        return DriverError(f"listen {proto}4 {address}:{port}: bind: permission denied")
    if number == errno.EADDRNOTAVAIL:
        return DriverError(f"listen {proto}4 {address}:{port}: bind: cannot assign requested address")
    who = holder(proto, address, port)
    return PortInUse(f"{who} has it" if who else "", _command(proto, port))


def holder(proto: str, address: str, port: int) -> str:
    """Who has a port, as "nginx (process 123)"; "" when that cannot be told. Linux only: proc_net(5), proc_pid_fd(5)."""
    if sys.platform != "linux":
        return ""
    owners = dict(_sockets(proto, address, port))
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and owners.keys() & _descriptors(process):
            return f"{_name(process)} (process {process.name})"
    for uid in owners.values():
        return f"a process of user {_user(uid)}"  # whose descriptors are not shown to us
    return ""


def _bind_error(proto: str, address: str, port: int) -> int:
    """errno of an attempt to bind, 0 when it succeeds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM) as probe:
        if proto == "tcp" and os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as QEMU does
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno or 0
    return 0


def _command(proto: str, port: int) -> str:
    """What shows who has a port."""
    if sys.platform == "win32":
        return f"see who has it with: netstat -ano | findstr :{port}"
    if sys.platform == "darwin":
        return f"see who has it with: sudo lsof -nP -i{proto.upper()}:{port}"
    return f"see who has it with: sudo ss -{'u' if proto == 'udp' else 't'}lnp 'sport = :{port}'"


def _sockets(proto: str, address: str, port: int) -> Iterator[tuple[str, int]]:
    """Inode and owner's uid of each socket that keeps `address`:`port` from being bound."""
    wanted = ipaddress.IPv4Address(address)
    for table in (proto, f"{proto}6"):
        try:
            lines = Path("/proc/self/net", table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, _, number = fields[1].partition(":")
            if int(number, 16) != port or fields[3] not in (_LISTENING, _UNCONNECTED):
                continue
            bound = _address(local)
            if bound is not None and (wanted.is_unspecified or bound.is_unspecified or bound == wanted):
                yield fields[9], int(fields[7])


def _address(text: str) -> ipaddress.IPv4Address | None:
    """The IPv4 address of a line of /proc/net: words in the machine's own byte order. None for one that is IPv6 alone."""
    words = [int(text[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(text), 8)]
    if len(words) == 1:
        return ipaddress.IPv4Address(words[0])
    address = ipaddress.IPv6Address(b"".join(words))
    return ipaddress.IPv4Address(0) if address.is_unspecified else address.ipv4_mapped


def _descriptors(process: Path) -> set[str]:
    """Inodes of the sockets that a process has open."""
    found: set[str] = set()
    try:
        names = os.listdir(process / "fd")  # noqa: PTH208 - thousands of them: names alone
    except OSError:
        return found  # it has ended, or is somebody else's
    for name in names:
        with contextlib.suppress(OSError):  # closed meanwhile
            link = os.readlink(process / "fd" / name)  # noqa: PTH115
            if link.startswith("socket:["):
                found.add(link[8:-1])
    return found


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "a program"


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
