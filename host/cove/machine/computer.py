"""What this computer has, of which machines get a part."""

from __future__ import annotations

import errno
import os
import socket
import sys


def processors() -> int:
    return os.cpu_count() or 1


def memory() -> int | None:
    """Bytes; None where that is not known."""
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):  # MEMORYSTATUSEX
            _fields_ = (
                ("length", ctypes.c_uint32), ("load", ctypes.c_uint32), ("physical", ctypes.c_uint64),
                ("others", ctypes.c_uint64 * 6),
            )  # fmt: skip

        status = Status(length=ctypes.sizeof(Status))
        return status.physical if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def has_address(address: str) -> bool:
    """Whether programs can listen at an IPv4 address here, as far as is known."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        try:
            one.bind((address, 0))
        except OSError as error:
            return error.errno not in (errno.EADDRNOTAVAIL, getattr(errno, "WSAEADDRNOTAVAIL", None))
    return True
