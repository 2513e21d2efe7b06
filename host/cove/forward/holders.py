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

from cove.drivers.qemu.identity import machine_of
from cove.errors import DriverError, PortInUse

_LISTENING, _UNCONNECTED = "0A", "07"  # include/net/tcp_states.h: TCP_LISTEN; TCP_CLOSE, which a bound UDP socket is in


def refusal(proto: str, address: str, port: int) -> DriverError | None:
    """The error for a port that could not be bound: `PortInUse` that names who has it, or what else forbids it.

    None when nothing does any more. Blocks for as long as it takes to look through all processes (tens of milliseconds).
    """
    number = _bind_error(proto, address, port)
    if not number:
        return None
    # Other reasons than a port in use are told in docker's words, which are Go's.
    where = f"listen {proto}6 [{address}]:{port}" if ":" in address else f"listen {proto}4 {address}:{port}"
    if number in (errno.EACCES, errno.EPERM):
        return DriverError(f"{where}: bind: permission denied ({_permission(address, port)})")
    if number in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return DriverError(f"{where}: bind: cannot assign requested address")
    who = holder(proto, address, port)
    return PortInUse(f"{who} has it" if who else "", _command(proto, port))


def is_free(proto: str, address: str, port: int) -> bool:
    """Whether a port can be bound at this moment."""
    return not _bind_error(proto, address, port)


def holder(proto: str, address: str, port: int) -> str:
    """Who has a port, as "nginx (process 123)" or "Cove's machine dev (process 123)"; "" when that cannot be told.

    Linux only: proc_net(5), proc_pid_fd(5).
    """
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
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if proto == "tcp" and os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as QEMU does
            probe.bind((address, port))
            if proto == "tcp":
                probe.listen(1)  # with SO_REUSEADDR, two may be bound until one listens
    except OSError as error:
        return error.errno or errno.EADDRINUSE
    return 0


def _permission(address: str, port: int) -> str:
    """What to do about a port that the system keeps from its users."""
    if sys.platform == "win32":
        return "Windows has reserved it: see netsh interface ipv4 show excludedportrange protocol=tcp, or choose another port"
    if sys.platform == "darwin":
        # Since 10.14, and then for sockets bound to no address alone.
        return f"macOS gives ports below 1024 to its users on all addresses only: publish 0.0.0.0:{port}, or choose a port from 1024 on"
    return f"ports below 1024 are root's: sudo sysctl net.ipv4.ip_unprivileged_port_start={port}, or choose a port from 1024 on"


def _command(proto: str, port: int) -> str:
    """What shows who has a port."""
    if sys.platform == "win32":
        return f"see who has it with: netstat -ano | findstr :{port}"
    if sys.platform == "darwin":
        return f"see who has it with: sudo lsof -nP -i{proto.upper()}:{port}"
    return f"see who has it with: sudo ss -{'u' if proto == 'udp' else 't'}lnp 'sport = :{port}'"


def _sockets(proto: str, address: str, port: int) -> Iterator[tuple[str, int]]:
    """Inode and owner's uid of each socket that keeps `address`:`port` from being bound."""
    wanted = ipaddress.ip_address(address)
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
            if _in_the_way(_address(local), wanted):
                yield fields[9], int(fields[7])


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of a line of /proc/net: words in the machine's own byte order."""
    words = [int(text[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(text), 8)]
    return ipaddress.IPv4Address(words[0]) if len(words) == 1 else ipaddress.IPv6Address(b"".join(words))


def _in_the_way(
    bound: ipaddress.IPv4Address | ipaddress.IPv6Address, wanted: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> bool:
    """Whether a socket at the one address keeps the other from being bound."""
    if wanted.version == 4 and isinstance(bound, ipaddress.IPv6Address):
        if bound.is_unspecified:
            return True  # of both families, unless its owner wanted otherwise
        bound = bound.ipv4_mapped or bound
    return bound.version == wanted.version and (wanted.is_unspecified or bound.is_unspecified or bound == wanted)


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
    if machine := machine_of(int(process.name)):
        return f"Cove's machine {machine}"
    try:
        return (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "a program"


def _user(uid: int) -> str:
    if sys.platform == "win32":
        return str(uid)
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
