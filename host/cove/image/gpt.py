"""Lays partitions on a disk: a GUID partition table, with the copy at its end, and the protective MBR before it.

Source: the UEFI specification, chapter 5.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

SECTOR = 512
EFI_SYSTEM = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
ALIGNMENT = 1 << 20
"""Where partitions begin: a multiple of every disk's blocks."""
_ENTRIES, _ENTRY = 128, 128
_TABLE = 1 + _ENTRIES * _ENTRY // SECTOR
"""Sectors of a header with its entries."""


@dataclass(frozen=True, slots=True)
class Partition:
    name: str
    kind: uuid.UUID
    identity: uuid.UUID
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """`head` is the disk's beginning, `tail` its end, and `places` are where the partitions begin; all in bytes."""

    size: int
    head: bytes
    tail: bytes
    places: tuple[int, ...]


def layout(identity: uuid.UUID, partitions: Sequence[Partition]) -> Layout:
    places, position = [], ALIGNMENT
    for partition in partitions:
        places.append(position)
        position = _aligned(position + partition.size)
    # The table's copy has the last mebibyte for itself.
    size = position + ALIGNMENT
    last = size // SECTOR - 1

    entries = b"".join(
        struct.pack(
            "<16s16sQQQ72s",
            partition.kind.bytes_le,
            partition.identity.bytes_le,
            place // SECTOR,
            (place + -(-partition.size // SECTOR) * SECTOR) // SECTOR - 1,
            0,
            partition.name.encode("utf-16-le"),
        )
        for partition, place in zip(partitions, places, strict=True)
    ).ljust(_ENTRIES * _ENTRY, b"\0")

    def header(here: int, other: int, table: int) -> bytes:
        def packed(checksum: int) -> bytes:
            return struct.pack(
                "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, checksum, 0, here, other, 1 + _TABLE, last - _TABLE,
                identity.bytes_le, table, _ENTRIES, _ENTRY, zlib.crc32(entries),
            )  # fmt: skip

        return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")

    whole = struct.pack("<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(last, 0xFFFFFFFF))
    protective = (bytes(446) + whole).ljust(510, b"\0") + b"\x55\xaa"
    head = protective + header(1, last, 2) + entries
    tail = entries + header(last, 1, last - _TABLE + 1)
    return Layout(size, head, tail, tuple(places))


def _aligned(value: int) -> int:
    return -(-value // ALIGNMENT) * ALIGNMENT
