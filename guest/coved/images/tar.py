"""Reads tar archives from a stream, in bounded memory and with no trust in them.

ustar and pax (POSIX.1-2017, pax), and GNU's long names and base-256 numbers (tar(5)). The standard library's module
reads pax headers of any size into memory and looks at names for us; here an archive is hostile until the extractor has
placed each entry beneath its root.

The command has a reader of its own (``cove.cli.cp.tarball``), and on purpose: engine and command are installed apart and
import nothing of each other, and a third package for both would cost each start of the command an import and each release
a version to agree on. Nor do they do the same: that one reads what our own engine made, and needs neither owners as
numbers of the machine nor attributes nor devices; this one stands between an attacker and root's file system.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from coved.errors import InvalidParameter
from coved.images.compression import Source

BLOCK = 512
_PATH_MAX, _NAME_MAX = 4096, 255
# Names, link targets and attributes of one entry; Linux bounds a path to 4 KiB and an attribute to 64 KiB.
_EXTENSION_LIMIT = 1024 * 1024

REGULAR, HARD_LINK, SYMBOLIC_LINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = "0123456"
_TYPES = frozenset({REGULAR, HARD_LINK, SYMBOLIC_LINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO})

# In Go's words, as dockerd has them, before our own.
_TOO_EARLY = "unexpected EOF: the archive ends too early"
_NO_ARCHIVE = "archive/tar: invalid tar header: this is not a tar archive, or it is damaged"


class BadArchive(InvalidParameter):
    """The archive cannot be read, or must not be."""


@dataclass
class Entry:
    """One member. ``type`` is a digit of the ustar format; names are decoded as the file system's are."""

    name: str
    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: str = ""
    device: tuple[int, int] = (0, 0)
    attributes: dict[str, bytes] = field(default_factory=dict)


class TarReader:
    """Iterate for the entries; ``read`` gives the content of the entry that the iteration is at.

    ``ends_anyhow``: it may end in what fills an entry's last block, as Go's reader takes it, and so dockerd.
    """

    def __init__(self, source: Source, *, ends_anyhow: bool = False) -> None:
        self._source = source
        self._ends_anyhow = ends_anyhow
        self._left = 0
        self._padding = 0
        self._globals: dict[str, bytes] = {}
        self._begun = False

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes of the current entry's content, b"" at its end."""
        wanted = min(size, self._left)
        if wanted <= 0:
            return b""
        data = self._source.read(wanted)
        if not data:
            raise BadArchive("unexpected EOF: the archive ends in the middle of a file")
        self._left -= len(data)
        return data

    # -- headers

    def _next(self) -> Entry | None:
        extended: dict[str, bytes] = dict(self._globals)
        long_name: bytes | None = None
        long_link: bytes | None = None
        left = _EXTENSION_LIMIT  # of all that is said of this one entry
        while True:
            if not self._skip():
                return None
            header = self._block()
            if header is None or not header.strip(b"\0"):
                return None
            _verify_checksum(header)
            self._begun = True
            kind = chr(header[156])
            size = _number(header[124:136])
            if kind in "xgLK":
                content = self._extension(size, left)
                left -= BLOCK + size
                if kind == "x":
                    extended.update(_pax_records(content))
                elif kind == "g":
                    self._globals.update(_pax_records(content))
                    if sum(len(key) + len(value) for key, value in self._globals.items()) > _EXTENSION_LIMIT:
                        raise BadArchive("the archive's global headers take more than 1 MiB")
                    extended = {**self._globals, **extended}
                elif kind == "L":
                    long_name = content.rstrip(b"\0")
                else:
                    long_link = content.rstrip(b"\0")
                continue
            return self._entry(header, kind, size, extended, long_name, long_link)

    def _entry(
        self,
        header: bytes,
        kind: str,
        size: int,
        extended: dict[str, bytes],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Entry:
        if kind == "S" or any(key.startswith("GNU.sparse.") for key in extended):
            raise BadArchive("sparse files in archives are not supported")
        name = extended.get("path") or long_name or _ustar_name(header)
        if kind in "\x007":
            kind = DIRECTORY if kind == "\0" and name.endswith(b"/") else REGULAR
        if kind not in _TYPES:
            raise BadArchive(f"{os.fsdecode(name)}: unknown type {kind!r} of an archive's entry")
        if "size" in extended:
            size = _decimal(extended["size"])
        if kind != REGULAR:
            # Other types have no content; a size in them is advisory (pax, "size"), and a hard link's is its file's.
            size = 0
        if size < 0:
            raise BadArchive(f"{os.fsdecode(name)}: negative size in the archive")
        self._left = size
        self._padding = -size % BLOCK
        entry = Entry(
            name=os.fsdecode(name),
            type=kind,
            mode=_number(header[100:108]) & 0o7777,
            uid=_decimal(extended["uid"]) if "uid" in extended else _number(header[108:116]),
            gid=_decimal(extended["gid"]) if "gid" in extended else _number(header[116:124]),
            size=size,
            mtime_ns=_time(extended["mtime"]) if "mtime" in extended else _number(header[136:148]) * 1_000_000_000,
            link=os.fsdecode(extended.get("linkpath") or long_link or _text(header[157:257])),
            attributes={key.removeprefix(_XATTR): value for key, value in extended.items() if key.startswith(_XATTR)},
        )
        if kind in (CHARACTER, BLOCK_DEVICE):
            entry.device = (_number(header[329:337]), _number(header[337:345]))
        _check_names(entry)
        if not 0 <= entry.uid < 2**32 - 1 or not 0 <= entry.gid < 2**32 - 1:
            raise BadArchive(f"{entry.name}: owner {entry.uid}:{entry.gid} is out of range")
        return entry

    def _extension(self, size: int, left: int) -> bytes:
        if not 0 <= size <= _EXTENSION_LIMIT:
            raise BadArchive(f"an extended header of {size} bytes is too large")
        if size > left:
            raise BadArchive("the extended headers of an entry take more than 1 MiB")
        content = self._exactly(size)
        self._exactly(-size % BLOCK)
        return content

    def _skip(self) -> bool:
        """To the next header. Whether there may be one."""
        while self.read(BLOCK * 512):
            pass
        while self._padding:
            chunk = self._source.read(self._padding)
            if not chunk and self._ends_anyhow:
                return False
            if not chunk:
                raise BadArchive(_TOO_EARLY)
            self._padding -= len(chunk)
        return True

    def _block(self) -> bytes | None:
        """The next header; None at the end of a stream without the two blocks of zeros that should end it."""
        first = self._source.read(BLOCK)
        return first + self._exactly(BLOCK - len(first)) if first else None

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self._source.read(size - len(data))
            if not chunk:
                raise BadArchive(_TOO_EARLY if self._begun else _NO_ARCHIVE)
            data += chunk
        return data


_XATTR = "SCHILY.xattr."


def _check_names(entry: Entry) -> None:
    """No file can have a longer name (limits.h), and whoever keeps names must not need to ask."""
    if "\0" in entry.name or "\0" in entry.link:
        raise BadArchive("a name in the archive has a NUL byte in it")
    name = os.fsencode(entry.name)
    if len(name) >= _PATH_MAX or len(os.fsencode(entry.link)) >= _PATH_MAX:
        raise BadArchive(f"a path in the archive is longer than {_PATH_MAX} bytes")
    if any(len(part) > _NAME_MAX for part in name.split(b"/")):
        raise BadArchive(f"a name in the archive is longer than {_NAME_MAX} bytes")


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _ustar_name(header: bytes) -> bytes:
    name = _text(header[0:100])
    if header[257:263] == b"ustar\0":
        prefix = _text(header[345:500])
        if prefix:
            return prefix + b"/" + name
    return name


def _number(field: bytes) -> int:
    """An octal number, or GNU's base-256 when the first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ((1 << (len(field) * 8 - 1)) - 1)
        if field[0] & 0x40:  # negative, two's complement
            value -= 1 << (len(field) * 8 - 1)
        return _bounded(value)
    text = field.strip(b" \0")
    if not text:
        return 0
    try:
        return int(text.partition(b"\0")[0], 8)
    except ValueError:
        raise BadArchive(f"malformed number {text!r} in the archive") from None


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise BadArchive(f"malformed number {text[:40]!r} in the archive")
    return _bounded(int(text))


def _bounded(value: int) -> int:
    if not -(2**62) < value < 2**62:
        raise BadArchive(f"number {value} in the archive is out of range")
    return value


def _time(text: bytes) -> int:
    """A pax time, seconds with a fraction, in nanoseconds."""
    whole, _, fraction = text.partition(b".")
    negative = whole.startswith(b"-")
    seconds = _decimal(whole.removeprefix(b"-"))
    nanoseconds = _decimal((fraction + b"000000000")[:9])
    value = _bounded(seconds * 1_000_000_000 + nanoseconds)
    return -value if negative else value


def _pax_records(content: bytes) -> dict[str, bytes]:
    """Records ``length key=value\\n``, where length counts the whole record."""
    records: dict[str, bytes] = {}
    start = 0
    while start < len(content):
        digits, space, _ = content[start : start + 24].partition(b" ")
        if not space or not digits.isdigit():
            raise BadArchive("malformed extended header in the archive")
        length = int(digits)
        record = content[start + len(digits) + 1 : start + length]
        if len(content) - start < length or not record.endswith(b"\n"):
            raise BadArchive("malformed extended header in the archive")
        key, equals, value = record[:-1].partition(b"=")
        if not equals:
            raise BadArchive("malformed extended header in the archive")
        records[os.fsdecode(key)] = value
        start += length
    return records


def is_header(block: bytes) -> bool:
    """Whether a block is the header of an entry."""
    if len(block) < BLOCK or not block.strip(b"\0"):
        return False
    try:
        _verify_checksum(block)
    except BadArchive:
        return False
    return True


def _verify_checksum(header: bytes) -> None:
    try:
        expected = int(header[148:156].strip(b" \0") or b"-1", 8)
    except ValueError:
        expected = -1
    summed = header[:148] + b" " * 8 + header[156:]
    # Some old programs sum signed characters.
    if expected not in (sum(summed), sum(byte - 256 if byte > 127 else byte for byte in summed)):
        raise BadArchive(f"{_NO_ARCHIVE} (a header's checksum is wrong)")
