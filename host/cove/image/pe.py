"""Adds sections to an EFI program: a unified kernel image is systemd's stub with kernel, initramfs and command line as sections.

Sources: Microsoft's "PE Format" (PE32+), and the UAPI group's specification of unified kernel images for the sections' names.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_NEW_HEADER = 0x3C
_COFF = struct.Struct("<4sHHIIIHH")
"""Signature, machine, sections, time stamp, symbols' place and number, size of the optional header, characteristics."""
_SECTION = struct.Struct("<8sIIIIIIHHI")
"""Name, size and place in memory, size and place in the file, relocations, line numbers, their counts, characteristics."""
_PE32_PLUS = 0x20B
_SECTIONS = 6
_INITIALIZED_DATA, _SECTION_ALIGNMENT, _SIZE_OF_IMAGE, _SIZE_OF_HEADERS, _CHECKSUM = 8, 32, 56, 60, 64
"""Offsets in the COFF header, and in the optional one."""
_READ, _INITIALIZED = 0x40000000, 0x40


def with_sections(program: bytes, added: Mapping[str, bytes]) -> bytes:
    """The program with the sections behind its own, in their order. Raises ``ValueError`` for what is no program of this kind, and when
    its headers have no room."""
    try:
        (coff,) = struct.unpack_from("<I", program, _NEW_HEADER)
        signature, _, count, _, _, _, optional_size, _ = _COFF.unpack_from(program, coff)
        optional = coff + _COFF.size
        magic, (section_alignment, file_alignment) = (
            struct.unpack_from("<H", program, optional)[0],
            struct.unpack_from("<II", program, optional + _SECTION_ALIGNMENT),
        )
        table = optional + optional_size
        known = [_SECTION.unpack_from(program, table + index * _SECTION.size) for index in range(count)]
        (header_size,) = struct.unpack_from("<I", program, optional + _SIZE_OF_HEADERS)
    except struct.error as error:
        raise ValueError("it ends within its headers") from error
    if program[:2] != b"MZ" or signature != b"PE\0\0" or magic != _PE32_PLUS or not known:
        raise ValueError("it is no EFI program for a 64-bit processor")
    if table + (count + len(added)) * _SECTION.size > header_size:
        raise ValueError("its headers have no room for more sections")

    address = max(_aligned(place + size, section_alignment) for _, size, place, *_ in known)
    output = bytearray(program)
    output += bytes(-len(output) % file_alignment)
    entry = table + count * _SECTION.size
    for name, data in added.items():
        if len(name.encode()) > 8:
            raise ValueError(f"{name} is too long for a section's name")
        stored = _aligned(len(data), file_alignment)
        header = (name.encode(), len(data), address, stored, len(output), 0, 0, 0, 0, _READ | _INITIALIZED)
        _SECTION.pack_into(output, entry, *header)
        output += data + bytes(stored - len(data))
        entry += _SECTION.size
        address += _aligned(len(data), section_alignment)
    stored = len(output) - len(program)
    (initialized,) = struct.unpack_from("<I", output, optional + _INITIALIZED_DATA)
    struct.pack_into("<I", output, optional + _INITIALIZED_DATA, initialized + stored)
    struct.pack_into("<I", output, optional + _SIZE_OF_IMAGE, address)
    struct.pack_into("<I", output, optional + _CHECKSUM, 0)  # of drivers alone it is looked at
    struct.pack_into("<H", output, coff + _SECTIONS, count + len(added))
    return bytes(output)


def _aligned(value: int, unit: int) -> int:
    return -(-value // unit) * unit
