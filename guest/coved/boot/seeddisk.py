"""The seed on a disk of its own, from a hypervisor that has no port for it (docs/decisions/0060). It is taken once, and wiped."""

import os
import time

from coved.boot import disk
from coved.boot.console import BootError
from coved.boot.seedform import BEGIN, MARK, SIZE

COMES_S, AGAIN_S = 10.0, 0.1
"""A disk may come some time after its driver."""


def take(root: str = "/sys/block", devices: str = "/dev") -> bytes:
    """The seed, which is not on the disk any more when this returns. Raises ``BootError``."""
    left = int(COMES_S / AGAIN_S)
    while (device := _find(root, devices)) is None:
        if left <= 0:
            raise BootError("the host has no port for a seed, and no disk with one")
        left -= 1
        time.sleep(AGAIN_S)
    try:
        return _taken(device)
    except OSError as error:
        raise BootError(f"the seed on {device} cannot be taken: {error.strerror}") from error


def _find(root: str, devices: str) -> str | None:
    for name in disk.whole_disks(root):
        try:
            with open(f"{devices}/{name}", "rb") as file:
                if file.read(len(MARK)) == MARK:
                    return f"{devices}/{name}"
        except OSError:
            continue
    return None


def _taken(device: str) -> bytes:
    with open(device, "r+b") as file:
        file.seek(BEGIN)
        line, end, _ = file.read(SIZE - BEGIN).partition(b"\n")
        if not end:
            # The machine has started itself again. What was on the disk were the keys and the clock of another boot.
            raise BootError("its seed is used up: only its host can start this machine")
        file.seek(BEGIN)
        file.write(bytes(-(-(len(line) + 1) // 512) * 512))
        file.flush()
        os.fsync(file.fileno())
    return line
