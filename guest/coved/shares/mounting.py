"""Folders' mounts in the VM: made when their device is there, taken away, and found. mount(2), umount2(2)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from coved.runtime import mountinfo
from coved.shares.table import Share

DEVICE_S = 15.0
"""Seconds that a device may take to appear after it was plugged in; one that works takes one."""
MSIZE = 512000
"""Bytes of a message of 9p over virtio, the most that the kernel takes."""
_MNT_DETACH = 2
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
    # The kernel refuses on a read-only mount what is pretended, too. So with Cove's own server only it refuses, and containers' mounts
    # are made read-only one by one (`Located.read_only`).
    read_only = share.read_only and share.driver in ("virtiofs", "9p")
    flags = _NO_SUID | _NO_DEV | (_READ_ONLY if read_only else 0)
    if share.driver == "virtiofs":
        _call(share.tag, place, "virtiofs", flags, "")
    elif share.driver == "9p":
        options = f"trans=virtio,version=9p2000.L,msize={MSIZE},cache=mmap"
        _call(share.tag, place, "9p", flags, options)
    else:
        from coved.shares import stream  # only where Cove's own server carries it

        stream.mount(share, lambda options: _call(share.tag, place, "9p", flags, options))


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


def drop(place: Path) -> None:
    """Take away a folder that answers nothing any more: who waits for it, or has it, gets errors. Nothing of it is asked."""
    if (device := _device(place)) is None:
        return
    minor, kind = device
    if kind == "virtiofs":
        _abort_fuse(minor)
    if _libc.umount2(os.fsencode(place), _MNT_DETACH):
        number = ctypes.get_errno()
        if number != errno.EINVAL:
            raise OSError(number, os.strerror(number), str(place))


def _abort_fuse(minor: int) -> None:
    """End all that waits for a server of FUSE (Documentation/filesystems/fuse.rst): it would wait for ever."""
    control = Path("/sys/fs/fuse/connections")
    with contextlib.suppress(OSError):
        if not any(control.iterdir()):
            _call("fusectl", control, "fusectl", 0, "")
        (control / str(minor) / "abort").write_text("1")


def _device(place: Path) -> tuple[int, str] | None:
    """The minor device number and type of the file system mounted on ``place``, on top of others."""
    found = [one for one in mountinfo.entries() if one.point == str(place)]
    return (int(found[-1].device.partition(":")[2]), found[-1].kind) if found else None


def mounted(root: Path) -> set[str]:
    """Names of what is mounted directly below ``root``; what is mounted there is not asked."""
    split = (one.point.rpartition("/") for one in mountinfo.entries())
    return {name for folder, _, name in split if folder == str(root)}
