"""A longer queue for the ports that QEMU listens on: its user networking lets two connections wait, and the third tries again a
second later (tcp(7), SYN). A browser opens six at once.

The length is the socket's, not QEMU's: whoever has a descriptor of it may change it. Linux gives one to those who may trace the
process (pidfd_getfd(2)); elsewhere, and where that is forbidden, the queue stays as it is.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys

LENGTH = 4096
_PIDFD_GETFD = 438  # of all architectures


def lengthen(pid: int, fd: int) -> None:
    """Of the listening socket that is the descriptor `fd` of process `pid`. Raises `OSError`."""
    if sys.platform != "linux":
        return
    process = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        mine = libc.syscall(ctypes.c_long(_PIDFD_GETFD), ctypes.c_int(process), ctypes.c_int(fd), ctypes.c_uint(0))
        if mine < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(process)
    try:
        listener = socket.socket(fileno=mine)
    except OSError:
        os.close(mine)
        raise
    with listener:
        listener.listen(LENGTH)
