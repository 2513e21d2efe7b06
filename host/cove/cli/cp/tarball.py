"""Tar archives entry by entry, in bounded memory: what the engine sends is hostile until it lies in its place.

ustar and pax (POSIX.1-2017, pax) are written, GNU's long names and base-256 numbers (tar(5)) read as well. The standard
library reads and writes the 512 bytes of a header; its archives are not used, for they read extended headers of any
size into memory and take a broken header for the end.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable, Iterator

from cove.cli.errors import CliError

BLOCK = 512
END = bytes(2 * BLOCK)
REGULAR, HARD_LINK, SYMBOLIC_LINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = "0123456"
CAPABILITY = "security.capability"

_EXTENSION_LIMIT = 1 << 20
"""Of the extended headers of one entry, as Go's reader has it."""
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = "x", "g", "L", "K"
_XATTR = "SCHILY.xattr."
_LARGEST_SIZE = 8**11 - 1
_LARGEST_ID = 8**7 - 1


class BadArchive(CliError):
    """The archive cannot be read, or must not be unpacked."""


class Entry:
    """One member. `type` is a digit of the format, `mode` the permission bits, `mtime` nanoseconds since the epoch,
    `capability` the value of the extended attribute of that name. A directory's name ends in no `/`.
    """

    __slots__ = ("capability", "device", "gid", "link", "mode", "mtime", "name", "size", "type", "uid")

    def __init__(
        self,
        name: str,
        type: str,
        mode: int = 0o644,
        *,
        size: int = 0,
        uid: int = 0,
        gid: int = 0,
        mtime: int = 0,
        link: str = "",
        device: tuple[int, int] = (0, 0),
        capability: bytes = b"",
    ) -> None:
        self.name = name
        self.type = type
        self.mode = mode
        self.size = size
        self.uid = uid
        self.gid = gid
        self.mtime = mtime
        self.link = link
        self.device = device
        self.capability = capability


class TarReader:
    """Iterate for the entries; `content` gives what the entry that the iteration stands at holds."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._buffer = b""
        self._at = 0
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def content(self) -> Iterator[bytes]:
        """The current entry's bytes. Raises `BadArchive` when the archive ends before them."""
        while self._left:
            data = self._some(self._left)
            self._left -= len(data)
            yield data

    def _some(self, most: int) -> bytes:
        while self._at == len(self._buffer):
            chunk = next(self._chunks, None)
            if chunk is None:
                raise BadArchive("unexpected EOF")
            self._buffer, self._at = chunk, 0
        data = self._buffer[self._at : self._at + most]
        self._at += len(data)
        return data

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._some(size - len(data))
        return data

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._some(size))

    def _header(self) -> bytes | None:
        """The next block; None at the end, which need not be marked."""
        while self._at == len(self._buffer):
            chunk = next(self._chunks, None)
            if chunk is None:
                return None
            self._buffer, self._at = chunk, 0
        block = self._exactly(BLOCK)
        return block if block.count(0) < BLOCK else None

    def _next(self) -> Entry | None:
        for _ in self.content():
            pass
        self._skip(self._padding)
        self._padding = 0
        records: dict[str, bytes] = {}
        name, link = "", ""
        budget = _EXTENSION_LIMIT
        while True:
            block = self._header()
            if block is None:
                if records or name or link:
                    raise BadArchive("unexpected EOF")
                return None
            header = _parse(block)
            kind = header.type.decode("latin-1")
            if kind not in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
                return self._entry(header, records, name, link)
            budget -= BLOCK + header.size
            if budget < 0:
                raise BadArchive("archive/tar: header field too long")
            data = self._exactly(header.size)
            self._skip(-header.size % BLOCK)
            if kind == _PAX:
                records |= _pax_records(data)
            elif kind == _LONG_NAME:
                name = _text(data.partition(b"\0")[0])
            elif kind == _LONG_LINK:
                link = _text(data.partition(b"\0")[0])
            # Global records describe the archive (git puts its commit there); Go's reader leaves them out as well.

    def _entry(self, header: tarfile.TarInfo, records: dict[str, bytes], name: str, link: str) -> Entry:
        if any(key.startswith("GNU.sparse.") for key in records):
            raise _invalid()
        name = _text(records["path"]) if "path" in records else name or header.name
        kind = header.type.decode("latin-1")
        if header.type == tarfile.AREGTYPE:  # of before POSIX, where a directory is told by its name
            kind = DIRECTORY if name.endswith("/") else REGULAR
        if kind == DIRECTORY:
            name = name.rstrip("/") or "/"
        size = _number(records["size"]) if "size" in records else header.size
        entry = Entry(
            name,
            kind,
            header.mode & 0o7777,
            size=size if kind == REGULAR else 0,
            mtime=_nanoseconds(records["mtime"]) if "mtime" in records else int(header.mtime) * 10**9,
            link=_text(records["linkpath"]) if "linkpath" in records else link or header.linkname,
            device=(header.devmajor, header.devminor),
            capability=records.get(_XATTR + CAPABILITY, b""),
        )
        if "\0" in entry.name or "\0" in entry.link:
            raise _invalid()
        self._left = entry.size
        self._padding = -entry.size % BLOCK
        return entry


def _invalid() -> BadArchive:
    return BadArchive("archive/tar: invalid tar header")


def _parse(block: bytes) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise _invalid() from error
    if header.size < 0:
        raise _invalid()
    return header


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _number(data: bytes) -> int:
    if not re.fullmatch(rb"\d{1,18}", data):
        raise _invalid()
    return int(data)


def _nanoseconds(data: bytes) -> int:
    match = re.fullmatch(rb"(-?)(\d{1,18})(?:\.(\d{0,30}))?", data)
    if match is None:
        raise _invalid()
    value = int(match[2]) * 10**9 + int((match[3] or b"").ljust(9, b"0")[:9])
    return -value if match[1] else value


def _pax_records(data: bytes) -> dict[str, bytes]:
    """The records of an extended header: `<length> <key>=<value>\\n`, the length that of the whole record."""
    records: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = data[at:space] if space > at else b""
        if not length.isdigit():
            raise _invalid()
        end = at + int(length)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or not equals or not key or data[end - 1 : end] != b"\n":
            raise _invalid()
        records[_text(key)] = value
        at = end
    return records


def _pax_record(key: str, value: bytes) -> bytes:
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length))  # the length counts its own digits, of which it may have made one more
    return str(length).encode() + rest


def header(entry: Entry) -> bytes:
    """The blocks that stand before the entry's content; an extended header only for what does not fit a plain one."""
    records: dict[str, bytes] = {}
    plain = tarfile.TarInfo()
    name = entry.name + "/" if entry.type == DIRECTORY and not entry.name.endswith("/") else entry.name
    plain.name = _field("path", name, records).rstrip("/")
    plain.linkname = _field("linkpath", entry.link, records)
    plain.type = entry.type.encode()
    plain.mode = entry.mode
    plain.size = _limited("size", entry.size, _LARGEST_SIZE, records)
    plain.uid = _limited("uid", entry.uid, _LARGEST_ID, records)
    plain.gid = _limited("gid", entry.gid, _LARGEST_ID, records)
    plain.mtime = _limited("mtime", entry.mtime // 10**9, _LARGEST_SIZE, records)
    plain.devmajor, plain.devminor = entry.device
    if entry.capability:
        records[_XATTR + CAPABILITY] = entry.capability
    block = plain.tobuf(tarfile.USTAR_FORMAT)
    if not records:
        return block
    data = b"".join(_pax_record(key, records[key]) for key in sorted(records))
    extended = tarfile.TarInfo("PaxHeaders.0/entry")
    extended.type = _PAX.encode()
    extended.size = len(data)
    return extended.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK) + block


def _field(key: str, value: str, records: dict[str, bytes]) -> str:
    raw = os.fsencode(value)
    if value.isascii() and (len(raw) <= 100 or (key == "path" and _splits(value))):
        return value
    records[key] = raw
    return re.sub(rb"[^\x20-\x7e]", b"_", raw)[:99].decode()


def _splits(name: str) -> bool:
    """Whether a name that is too long fits when its beginning, up to a `/`, goes into the prefix field."""
    cut = name.rstrip("/").rfind("/", 0, 156)
    return cut > 0 and 0 < len(name) - cut - 1 <= 100


def _limited(key: str, value: int, largest: int, records: dict[str, bytes]) -> int:
    if 0 <= value <= largest:
        return value
    records[key] = str(value).encode()
    return 0
