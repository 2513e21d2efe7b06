"""Making an empty qcow2 disk, and reading how large one is.

Format: "docs/interop/qcow2.txt" of QEMU, version 3. Written here because an empty image is a header and three tables, while
`qemu-img` is a package of its own on many systems.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

from cove.errors import DriverError
from cove.machine.files import write_whole
from cove.machine.space import full, is_full

_MAGIC = 0x514649FB
_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
_HEADER = struct.Struct(">IIQIIQIIQQIIQQQQII")
_REFCOUNT_ORDER = 4  # 16 bits for each count


def create(path: Path, size: int) -> None:
    """Write an empty image of `size` bytes (a multiple of 512) whole and rename it. Raises `DriverError`, `CoveError`."""
    if size <= 0 or size % 512:
        raise ValueError("a disk's size is a positive multiple of 512")
    per_l1_entry = _CLUSTER * (_CLUSTER // 8)
    l1_entries = -(-size // per_l1_entry)
    l1_clusters = -(-l1_entries * 8 // _CLUSTER)
    clusters = 3 + l1_clusters  # header, refcount table, refcount block, L1 table
    header = _HEADER.pack(
        _MAGIC,
        3,
        0,  # no backing file
        0,
        _CLUSTER_BITS,
        size,
        0,  # no encryption
        l1_entries,
        3 * _CLUSTER,
        _CLUSTER,
        1,  # cluster of the refcount table
        0,  # no snapshots
        0,
        0,  # incompatible, compatible and autoclear features
        0,
        0,
        _REFCOUNT_ORDER,
        _HEADER.size,
    )
    table = struct.pack(">Q", 2 * _CLUSTER)
    counts = struct.pack(f">{clusters}H", *([1] * clusters))
    data = b"".join(part.ljust(_CLUSTER, b"\0") for part in (header, table, counts))
    try:
        write_whole(path, data + bytes(l1_clusters * _CLUSTER))
    except OSError as error:
        if is_full(error):
            raise full(path.parent, "the machine's disk") from error
        raise DriverError(f"the disk {path} cannot be created: {error.strerror}") from error


def virtual_size(path: Path) -> int:
    """Bytes that the guest sees. Raises `DriverError` when the file is not a qcow2 image."""
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise DriverError(f"the disk {path} cannot be read: {error.strerror}") from error
    if len(start) < 32 or int.from_bytes(start[:4], "big") != _MAGIC:
        raise DriverError(
            f"{path} is not a disk image of Cove's",
            f"restore it from a backup, or remove the machine, in whose folder it is: cove machine rm {path.parent.name}",
        )
    return int.from_bytes(start[24:32], "big")


def allocated(path: Path) -> int | None:
    """Bytes that the image takes of the host's disk; None where that cannot be told."""
    try:
        info = path.stat()
    except OSError:
        return None
    if sys.platform == "win32":
        return info.st_size
    return info.st_blocks * 512


def mistakes(path: Path) -> list[str]:
    """What is wrong with an image by its header, tables' places and the marks that QEMU leaves; it may be in use.

    Reads a few hundred bytes: what `qemu-img check` finds by reading all tables, it does not. Raises `DriverError`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_HEADER.size)
            length = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise DriverError(f"the disk {path} cannot be read: {error.strerror}") from error
    if len(data) < _HEADER.size:
        return ["it ends within its header"]
    header = _HEADER.unpack(data)
    version, cluster_bits, l1_entries, l1_place = header[1], header[4], header[7], header[8]
    refcounts, refcount_clusters, features = header[9], header[10], header[13]
    found = []
    if version not in (2, 3) or not 9 <= cluster_bits <= 21:
        return [f"its header is wrong (version {version}, clusters of 2^{cluster_bits} bytes)"]
    if version == 3 and features & 2:
        found.append("QEMU has marked it as corrupt")
    if l1_place + l1_entries * 8 > length or refcounts + (refcount_clusters << cluster_bits) > length:
        found.append("it has been cut off: its tables are beyond its end")
    return found
