"""The data disk: formatted when it is blank, checked when it does not mount, grown when the host made it larger."""

import os
import struct
import time

from coved.boot.console import BootError, say
from coved.boot.places import DATA
from coved.boot.services import spawn
from coved.boot.system import MS_NOATIME, mount, run, write

SERIAL = "cove-data"
_DRIVER = "/sys/bus/virtio/drivers/virtio_blk"
_PROBE = 1 << 16
_SUPERBLOCK = 1024
_MAGIC = 0xEF53
TRIM_AFTER_S = 120
"""It takes some seconds under software emulation, and a machine that starts has other things to do."""
COMES_S, AGAIN_S = 10.0, 0.1
"""Elsewhere than on virtio a disk may come some time after its driver."""
_CORRECTED = 2
"""e2fsck's exit status is a set of bits; up to this one everything is well again (e2fsck(8))."""


class UnknownContent(BootError):
    """The disk holds something that is not Cove's."""


def find(root: str = "/sys/block", devices: str = "/dev") -> str:
    """The device of the data disk. Raises ``BootError`` when there is none.

    It is the disk with Cove's serial number. Where the hypervisor gives disks no such numbers it is the one with Cove's file system, and
    at first the one that is blank, if there is one alone.
    """
    if (marked := _marked(root)) is not None:
        return f"{devices}/{marked}"
    ours, blank = [], []
    for name in whole_disks(root):
        try:
            with open(f"{devices}/{name}", "rb") as file:
                head = file.read(_PROBE)
            if filesystem_size(head) is None:
                blank.append(name)
            elif head[_SUPERBLOCK + 120 :][:16].rstrip(b"\0") == SERIAL.encode():
                ours.append(name)
        except (OSError, UnknownContent, struct.error):
            continue
    if len(found := ours or blank) != 1:
        what = "more than one disk is" if found else f"no disk has the serial number {SERIAL}, and none is"
        raise BootError(f"{what} Cove's or blank")
    return f"{devices}/{found[0]}"


def _marked(root: str) -> str | None:
    for name in sorted(os.listdir(root)):
        try:
            with open(f"{root}/{name}/serial") as file:
                if file.read().strip() == SERIAL:
                    return name
        except OSError:
            continue
    return None


def whole_disks(root: str) -> list[str]:
    """Disks that are devices, cannot be taken out, and have no partitions."""
    found = []
    for name in sorted(os.listdir(root)):
        place = f"{root}/{name}"
        try:
            with open(f"{place}/removable") as file:
                fixed = file.read().strip() == "0"
            parts = any(os.path.exists(f"{place}/{part}/partition") for part in os.listdir(place))
        except OSError:
            continue
        if fixed and not parts and os.path.exists(f"{place}/device"):
            found.append(name)
    return found


def let_go() -> str:
    """Take the data disk from the kernel, which shall know nothing of what is on it yet; returns what ``take`` wants.

    A disk that has no serial number is left as it is: its hypervisor saves no VMs for others to start from.
    """
    if (marked := _marked("/sys/block")) is None:
        return ""
    name = os.path.basename(os.path.realpath(f"/sys/block/{marked}/device"))
    write(f"{_DRIVER}/unbind", name)
    return name


def take(name: str) -> str:
    """Give the disk to the kernel again, as it is now. Returns its device. Raises ``BootError``."""
    if name:
        write(f"{_DRIVER}/bind", name)
        return find()
    for _ in range(int(COMES_S / AGAIN_S)):
        try:
            return find()
        except BootError:
            time.sleep(AGAIN_S)
    return find()


def filesystem_size(head: bytes) -> int | None:
    """Bytes of the ext4 file system that starts with ``head`` (64 KiB); None when the disk is blank.

    Raises ``UnknownContent`` for anything else: it may be precious to somebody.
    """
    magic, size_low = (
        struct.unpack_from("<H", head, _SUPERBLOCK + 56)[0],
        struct.unpack_from("<I", head, _SUPERBLOCK + 4)[0],
    )
    if magic == _MAGIC:
        (block_size,) = struct.unpack_from("<I", head, _SUPERBLOCK + 24)
        (size_high,) = struct.unpack_from("<I", head, _SUPERBLOCK + 336)
        return int((size_high << 32 | size_low) * (1024 << block_size))
    if any(head):
        raise UnknownContent("the data disk holds something that is not Cove's; it is left as it is")
    return None


def _died(head: bytes) -> bool:
    """Whether the file system was in use when its VM ended: its journal is to be replayed (EXT4_FEATURE_INCOMPAT_RECOVER)."""
    return bool(struct.unpack_from("<I", head, _SUPERBLOCK + 96)[0] & 4)


def attach(device: str) -> None:
    """Mount ``device`` on the data directory, making it fit for that. Raises ``BootError``."""
    with open(device, "rb") as file:
        head = file.read(_PROBE)
        size = file.seek(0, os.SEEK_END)
    known = filesystem_size(head)
    if known is not None and _died(head):
        # What had been removed just before may not have been given back to the host.
        spawn(("/bin/sh", "-c", f"sleep {TRIM_AFTER_S}; exec nice -n 19 fstrim {DATA}"), {})
    if known is None:
        say(f"making a file system on {device}, {size >> 30} GiB")
        options = ("-q", "-F", "-m", "0", "-L", SERIAL, "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard")
        if run("/usr/sbin/mke2fs", "-t", "ext4", *options, device):
            raise BootError(f"no file system could be made on {device}")
        known = size
    _mount(device)
    if size - known >= 1 << 20:
        say(f"growing the file system from {known >> 20} to {size >> 20} MiB")
        if run("/usr/sbin/resize2fs", device):
            say("it could not be grown; the old size is used")


def tidy() -> None:
    """Remove what other system images have kept on the disk: none of it is needed to go back to one."""
    mine = os.environ.get("PYTHONPYCACHEPREFIX", "").removeprefix(f"{DATA}/system/").partition("/")[0]
    try:
        others = [name for name in os.listdir(f"{DATA}/system") if name != mine]
    except OSError:
        return
    if mine and others:
        spawn(("/bin/rm", "-rf", *(f"{DATA}/system/{name}" for name in others)), {})


def _mount(device: str) -> None:
    try:
        mount(device, DATA, "ext4", MS_NOATIME, "discard")
        return
    except OSError as error:
        say(f"{device} does not mount ({error.strerror}); checking it")
    status = run("/usr/sbin/e2fsck", "-p", device)
    if status > _CORRECTED:
        raise BootError(f"the data disk is damaged (e2fsck -p: {status}); it is left as it is")
    try:
        mount(device, DATA, "ext4", MS_NOATIME, "discard")
    except OSError as error:
        raise BootError(f"the data disk cannot be mounted: {error.strerror}") from error
