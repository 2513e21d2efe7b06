"""Writes VHDX files, which is what Hyper-V takes for a disk: dynamic ones, with the blocks that have something in them. Of any, how
large the disk is.

Source: Microsoft's [MS-VHDX]. The same bits for the same disk: its identifiers come from its contents.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterable
from typing import IO

SECTOR = 512
BLOCK = 1 << 20
_MIB = 1 << 20
_CHUNK_RATIO = (SECTOR << 23) // BLOCK
"""Blocks of data to one of marks, which a dynamic disk has no use for; its place in the table is left free."""
_ZERO, _PRESENT = 2, 6
_BAT = uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
_METADATA = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_FILE_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
_DISK_SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
_DISK_ID = uuid.UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
_LOGICAL_SECTOR = uuid.UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
_PHYSICAL_SECTOR = uuid.UUID("cda348c7-445d-4471-9cc9-e9885251c556")
_IS_DISK, _IS_REQUIRED = 2, 4
_REGIONS_AT = 192 << 10, 256 << 10
_TABLE = 64 << 10
"""Bytes of a table of regions, or of metadata."""
_MOST = 2046
"""Entries of such a table."""
_LOG_AT, _METADATA_AT, _BAT_AT = 1 * _MIB, 2 * _MIB, 3 * _MIB


def write(blocks: Iterable[bytes], size: int, output: IO[bytes]) -> None:
    """Write a disk of `size` bytes, a multiple of 512, as a VHDX file to `output`, which can be sought in.

    Args:
        blocks: what is on the disk, `BLOCK` bytes at a time; the last may be shorter.
    """
    if size <= 0 or size % SECTOR:
        raise ValueError("a disk's size is a positive multiple of 512")
    count = -(-size // BLOCK)
    table = bytearray(8 * (count + (count - 1) // _CHUNK_RATIO))
    table_size = -(-len(table) // _MIB) * _MIB
    place = _BAT_AT + table_size
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    output.seek(place)
    nothing = bytes(BLOCK)
    for index, block in enumerate(blocks):
        entry = _ZERO
        if block != nothing[: len(block)]:
            digest.update(index.to_bytes(8, "little") + block)
            output.write(block.ljust(BLOCK, b"\0"))
            entry = place | _PRESENT
            place += BLOCK
        struct.pack_into("<Q", table, 8 * (index + index // _CHUNK_RATIO), entry)
    identity = uuid.UUID(bytes=digest.digest()[:16], version=4)
    output.seek(0)
    output.write(_headers(identity, table_size))
    output.seek(_METADATA_AT)
    output.write(_metadata(size, identity))
    output.seek(_BAT_AT)
    output.write(table)
    output.truncate(place)


def virtual_size(source: IO[bytes]) -> int:
    """How large the disk in a VHDX file is, whoever has written it. Raises `ValueError` for what is none, `OSError`."""
    if source.read(8) != b"vhdxfile":
        raise ValueError("it is no VHDX file")
    for place in _REGIONS_AT:  # there are two, for the case that one is damaged
        table = _read(source, place, _TABLE)
        if table[:4] == b"regi" and struct.pack("<I", _crc32c(table[:4] + bytes(4) + table[8:])) == table[4:8]:
            break
    else:
        raise ValueError("its table of regions is damaged")
    regions = _entries(table, 16, "<16sQI4x", struct.unpack_from("<I", table, 8)[0])
    if _METADATA not in regions:
        raise ValueError("it has no metadata")
    begin, _ = regions[_METADATA]
    items = _read(source, begin, _TABLE)
    if items[:8] != b"metadata":
        raise ValueError("its metadata are damaged")
    known = _entries(items, 32, "<16sII8x", struct.unpack_from("<H", items, 10)[0])
    if _DISK_SIZE not in known:
        raise ValueError("it does not say how large it is")
    place, _ = known[_DISK_SIZE]
    size: int = struct.unpack("<Q", _read(source, begin + place, 8))[0]
    return size


def _entries(table: bytes, begin: int, form: str, count: int) -> dict[uuid.UUID, tuple[int, int]]:
    """Place and length of each; they have 32 bytes each."""
    found = (struct.unpack_from(form, table, begin + 32 * index) for index in range(min(count, _MOST)))
    return {uuid.UUID(bytes_le=kind): (place, length) for kind, place, length in found}


def _read(source: IO[bytes], place: int, size: int) -> bytes:
    source.seek(place)
    if len(data := source.read(size)) < size:
        raise ValueError("it is cut off")
    return data


def _headers(identity: uuid.UUID, table_size: int) -> bytes:
    def header(sequence: int) -> bytes:
        data = uuid.uuid5(identity, "data").bytes_le
        fields = (sequence, uuid.uuid5(identity, "file").bytes_le, data, bytes(16), 0, 1, _MIB, _LOG_AT)
        return _checked(struct.pack("<4sIQ16s16s16sHHIQ", b"head", 0, *fields).ljust(4096, b"\0"))

    regions = b"".join(
        struct.pack("<16sQII", kind.bytes_le, place, length, 1)
        for kind, place, length in ((_BAT, _BAT_AT, table_size), (_METADATA, _METADATA_AT, _MIB))
    )
    table = _checked((struct.pack("<4sIII", b"regi", 0, 2, 0) + regions).ljust(65536, b"\0"))
    creator = b"vhdxfile" + "Cove".encode("utf-16-le")
    return b"".join(part.ljust(65536, b"\0") for part in (creator, header(1), header(2), table, table))


def _metadata(size: int, identity: uuid.UUID) -> bytes:
    items = (
        (_FILE_PARAMETERS, struct.pack("<II", BLOCK, 0), _IS_REQUIRED),
        (_DISK_SIZE, struct.pack("<Q", size), _IS_DISK | _IS_REQUIRED),
        (_DISK_ID, identity.bytes_le, _IS_DISK | _IS_REQUIRED),
        (_LOGICAL_SECTOR, struct.pack("<I", SECTOR), _IS_DISK | _IS_REQUIRED),
        (_PHYSICAL_SECTOR, struct.pack("<I", 4096), _IS_DISK | _IS_REQUIRED),
    )
    table, data = struct.pack("<8sHH20x", b"metadata", 0, len(items)), b""
    for kind, value, flags in items:
        table += struct.pack("<16sIIII", kind.bytes_le, 65536 + len(data), len(value), flags, 0)
        data += value
    return table.ljust(65536, b"\0") + data


def _checked(structure: bytes) -> bytes:
    """With the checksum of itself, which has four bytes from the fourth on."""
    return structure[:4] + struct.pack("<I", _crc32c(structure)) + structure[8:]


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRC = [_crc_entry(value) for value in range(256)]
"""Of CRC-32C: Castagnoli's polynomial, bits turned round."""
