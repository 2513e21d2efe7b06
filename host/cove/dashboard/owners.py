"""Whose program it is that has connected: Linux tells of each connection of this computer which user has it (proc(5), net/tcp)."""

from __future__ import annotations

import os
import sys

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
"""Browsers connect to 127.0.0.1 by sockets of IPv6 as well."""
_LOCALHOST = frozenset({"0100007F", "0000000000000000FFFF00000100007F"})
_ROOT = 0


def of_client(port: int, ours: int) -> bool | None:
    """Whether the connection from this port of 127.0.0.1 to ours is this user's, or root's; None when the system does not tell."""
    if sys.platform != "linux":
        return None
    wanted = f"{port:04X}", f"{ours:04X}"
    for table in _TABLES:
        try:
            with open(table, encoding="ascii") as lines:  # noqa: PTH123
                for line in lines:
                    if (owner := _owner(line, wanted)) is not None:
                        return owner in (os.getuid(), _ROOT)
        except (OSError, ValueError):
            continue
    return None


def _owner(line: str, wanted: tuple[str, str]) -> int | None:
    """The user of the connection between these ports; None when the line is of another."""
    columns = line.split()
    if len(columns) < 10 or columns[9] == "0":  # the last: a socket that its program has closed
        return None
    ends = [columns[1].rpartition(":"), columns[2].rpartition(":")]
    if any(host not in _LOCALHOST for host, _, _ in ends) or (ends[0][2], ends[1][2]) != wanted:
        return None
    return int(columns[7])
