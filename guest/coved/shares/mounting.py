"""Folders' mounts in the VM: made when their device is there, taken away, and found. mount(2), umount2(2), proc_pid_mountinfo(5)."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from coved.shares.table import Share

DEVICE_S = 15.0
"""Seconds that a device may take to appear after it was plugged in; one that works takes one."""
MSIZE = 512000
"""Bytes of a message of 9p over virtio, the most that the kernel takes."""
_READ_ONLY, _NO_SUID, _NO_DEV = 1, 2, 4
_NETLINK_KOBJECT_UEVENT = 15

_libc = ctypes.CDLL(None, use_errno=True)


class Events:
    """The kernel's messages on devices (udev(7) hears the same), so that nobody has to ask again and again."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_KOBJECT_UEVENT)
        self._socket.bind((0, 1))

    def close(self) -> None:
        self._socket.close()

    def wait(self, timeout_s: float) -> bool:
        """Return when a device came or went since the last call; False when none did in time."""
        if not select.select([self._socket], [], [], max(0.0, timeout_s))[0]:
            return False
        while select.select([self._socket], [], [], 0)[0]:
            try:
                self._socket.recv(1 << 16)
            except OSError:  # too many for its buffer
                break
        return True


def mount(share: Share, place: Path, timeout_s: float = DEVICE_S) -> None:
    """Mount a folder, when its device has come. Blocks. Raises OSError."""
    place.mkdir(parents=True, exist_ok=True, mode=0o755)
    events = Events()
    try:
        _when_there(lambda: _mount(share, place), events, timeout_s)
    finally:
        events.close()


def _when_there(work: Callable[[], None], events: Events, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while True:
        try:
            work()
            return
        except OSError as error:
            # ENOENT of 9p, EINVAL of virtiofs: no device has that tag.
            if error.errno not in (errno.ENOENT, errno.EINVAL) or not events.wait(end - time.monotonic()):
                raise


def _mount(share: Share, place: Path) -> None:
    flags = _NO_SUID | _NO_DEV | (_READ_ONLY if share.read_only else 0)
    if share.driver == "virtiofs":
        _call(share.tag, place, "virtiofs", flags, "")
    elif share.driver == "9p":
        options = f"trans=virtio,version=9p2000.L,msize={MSIZE},cache=mmap"
        _call(share.tag, place, "9p", flags, options)
    else:
        from coved.shares import stream  # only where the host's computer has neither

        stream.mount(share, place, lambda options: _call(share.tag, place, "9p", flags, options))


def _call(source: str, target: Path, kind: str, flags: int, options: str) -> None:
    if _libc.mount(source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def unmount(place: Path) -> None:
    """Take a folder away; nothing is done when it is not mounted. Raises OSError, EBUSY while it is in use."""
    if _libc.umount2(os.fsencode(place), 0):
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            raise OSError(number, os.strerror(number), str(place))


def mounted(root: Path) -> set[str]:
    """Names of what is mounted directly below ``root``; what is mounted there is not asked."""
    prefix = os.fsencode(root) + b"/"
    found = set()
    with Path("/proc/self/mountinfo").open("rb") as file:
        for line in file:
            point = line.split(b" ", 5)[4]
            if point.startswith(prefix) and b"/" not in (name := point.removeprefix(prefix)):
                found.add(name.decode("ascii", "replace"))
    return found
