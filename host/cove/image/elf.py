"""Reads what the builder needs from ELF files: needed libraries, and kernel modules' own descriptions.

Source: elf(5). Only 64-bit little-endian files, which is what amd64 and arm64 have.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_DT_NEEDED = 1
_SHT_SYMTAB = 2


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    kind: int
    offset: int
    size: int
    link: int


def is_elf(data: bytes) -> bool:
    """Whether `data` starts as a 64-bit little-endian ELF file does."""
    return data[:6] == b"\x7fELF\x02\x01"


def sections(data: bytes) -> list[Section]:
    """The file's sections. Raises `ValueError` when it is not an ELF file of the expected form."""
    if not is_elf(data) or len(data) < 64:
        raise ValueError("not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names_index = struct.unpack_from("<HHH", data, 58)
    try:
        raw = [_SECTION.unpack_from(data, table + index * size) for index in range(count)]
        names = data[raw[names_index][4] :][: raw[names_index][5]] if count else b""
    except (struct.error, IndexError) as error:
        raise ValueError("a damaged ELF file") from error
    return [Section(_string(names, entry[0]), entry[1], entry[4], entry[5], entry[6]) for entry in raw]


def needed(data: bytes) -> list[str]:
    """The libraries that the dynamic linker has to find for this file; none for a static one."""
    found = sections(data)
    result = []
    for section in found:
        if section.name != ".dynamic":
            continue
        strings = found[section.link]
        table = data[strings.offset : strings.offset + strings.size]
        for offset in range(section.offset, section.offset + section.size, 16):
            tag, value = struct.unpack_from("<QQ", data, offset)
            if tag == _DT_NEEDED:
                result.append(_string(table, value))
    return result


def module_info(data: bytes) -> list[tuple[str, str]]:
    """A kernel module's .modinfo: (key, value) in order, keys may repeat."""
    result = []
    for section in sections(data):
        if section.name == ".modinfo":
            for entry in data[section.offset : section.offset + section.size].split(b"\0"):
                key, separator, value = entry.decode("utf-8", "replace").partition("=")
                if separator:
                    result.append((key, value))
    return result


def exported_symbols(data: bytes) -> list[str]:
    """The symbols that a kernel module exports: the kernel's EXPORT_SYMBOL leaves a `__ksymtab_NAME` for each."""
    found = sections(data)
    result = []
    for section in found:
        if section.kind != _SHT_SYMTAB:
            continue
        strings = found[section.link]
        table = data[strings.offset : strings.offset + strings.size]
        for offset in range(section.offset, section.offset + section.size, _SYMBOL.size):
            name = _string(table, _SYMBOL.unpack_from(data, offset)[0])
            if name.startswith("__ksymtab_"):
                result.append(name.removeprefix("__ksymtab_"))
    return sorted(result)


def _string(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode("utf-8", "replace")
