"""Writes FAT32 file systems: one file in a path of short names, which is what firmware boots from.

Source: Microsoft's "FAT: General Overview of On-Disk Format", version 1.03. Clusters have one sector, and files lie in one piece.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

SECTOR = 512
_RESERVED = 32
_MIN_CLUSTERS = 65536
"""With fewer it would be a FAT16, whatever it says of itself; 65525 is the border, and the specification says to stay away from it."""
_END = 0x0FFFFFFF
_MEDIA = 0xF8
_DIRECTORY, _ARCHIVE, _LABEL = 0x10, 0x20, 0x08
_DATE = (2020 - 1980) << 9 | 1 << 5 | 1


def volume(path: Sequence[str], content: bytes, label: str) -> bytes:
    """A volume with one file. Its folders and itself have names of the form "8.3", in capitals. Raises ``ValueError``."""
    *folders, name = path
    used = 1 + len(folders) + -(-len(content) // SECTOR)
    clusters = max(_MIN_CLUSTERS, used + 16)
    table_sectors = -(-(clusters + 2) * 4 // SECTOR)
    sectors = _RESERVED + 2 * table_sectors + clusters

    table = [0x0FFFFF00 | _MEDIA, _END, *([_END] * (1 + len(folders)))]
    first = len(table)
    if content:
        table += [*range(first + 1, first + -(-len(content) // SECTOR)), _END]
    data = bytearray(_entry(_padded(label, ""), _LABEL, 0, 0))
    for index, folder in enumerate(folders):
        here = 3 + index
        data += _entry(_short(folder), _DIRECTORY, here, 0)
        data += bytes(-len(data) % SECTOR)
        # The root is called cluster 0 there.
        data += _entry(b".          ", _DIRECTORY, here, 0) + _entry(
            b"..         ", _DIRECTORY, here - 1 if index else 0, 0
        )
    data += _entry(_short(name), _ARCHIVE, first if content else 0, len(content))
    data += bytes(-len(data) % SECTOR)
    data += content
    table_bytes = struct.pack(f"<{len(table)}I", *table).ljust(table_sectors * SECTOR, b"\0")
    return b"".join(
        (
            _reserved(sectors, table_sectors, clusters - used, first + len(table), label),
            table_bytes,
            table_bytes,
            bytes(data).ljust(clusters * SECTOR, b"\0"),
        )
    )


def _reserved(sectors: int, table_sectors: int, free: int, next_free: int, label: str) -> bytes:
    boot = struct.pack(
        "<3s8sHBHBHHBHHHIIIHHIHH12xBBBI11s8s",
        b"\xeb\x58\x90",
        b"MSWIN4.1",  # which the specification recommends
        SECTOR,
        1,
        _RESERVED,
        2,
        0,
        0,
        _MEDIA,
        0,
        32,
        64,
        0,
        sectors,
        table_sectors,
        0,
        0,
        2,  # the root's first cluster
        1,  # sector of the information
        6,  # and of the copy of this one
        0x80,
        0,
        0x29,
        0x43_4F_56_45,
        _padded(label, ""),
        b"FAT32   ",
    )
    first = boot.ljust(510, b"\0") + b"\x55\xaa"
    information = struct.pack("<I480xIII12xI", 0x41615252, 0x61417272, free, next_free, 0xAA550000)
    pair = first + information
    return (pair.ljust(6 * SECTOR, b"\0") + pair).ljust(_RESERVED * SECTOR, b"\0")


def _entry(name: bytes, attributes: int, cluster: int, size: int) -> bytes:
    return struct.pack(
        "<11sBBBHHHHHHHI", name, attributes, 0, 0, 0, _DATE, _DATE, cluster >> 16, 0, _DATE, cluster & 0xFFFF, size
    )


def _short(name: str) -> bytes:
    stem, _, extension = name.partition(".")
    if not (1 <= len(stem) <= 8 and len(extension) <= 3 and (stem + extension).isalnum() and name == name.upper()):
        raise ValueError(f"{name} is no short name in capitals")
    return _padded(stem, extension)


def _padded(stem: str, extension: str) -> bytes:
    return (stem.ljust(8) + extension.ljust(3) if extension else stem.ljust(11)).encode("ascii")
