"""The two forms of a container's log: Docker's ``json-file``, and ``local``, a binary form of our own.

Both take whole chunks of output with one time for all their lines and turn them into bytes by a few bulk operations:
a container that prints 200,000 lines must not cost its shim a second. ``docs/on-disk-layout.md`` describes the files.
"""

import codecs
import os
import struct
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PLAIN = bytes(byte for byte in range(0x20, 0x80) if byte not in b'"\\<>&') + b"\n"
_ESCAPES = {byte: b"\\u%04x" % byte for byte in (*range(0x20), *b"<>&")}
_ESCAPES[ord("\r")] = b"\\r"
_ESCAPES[ord('"')] = b'\\"'
_LINE_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))

STREAMS = {"stdout": 1, "stderr": 2}
_BLOCK = 64 * 1024
PIECE = 4
"""Flag of a record: a part of a line that does not end in it."""
RECORD_HEAD = struct.Struct(">IBQ")  # what follows up to the second length, stream and flags, Unix nanoseconds
RECORD_TAIL = struct.Struct(">I")  # the length again, for reading backwards
RECORD_EXTRA = RECORD_HEAD.size + RECORD_TAIL.size
_EXTRA = struct.Struct("<2sHQQ")


def compressed_head(inode: int, last_stamp: int) -> bytes:
    """The extra field (RFC 1952, 2.3.1.1) of a compressed log file: which file it was, for those who follow it, and the
    time of its last line, Unix nanoseconds, 0 when that is not known."""
    return _EXTRA.pack(b"Cv", _EXTRA.size - 4, inode, last_stamp)


def read_compressed_head(start: bytes) -> tuple[int, int]:
    """Inode and time from the first 64 bytes of a compressed file; zeros when it has no such field."""
    if len(start) < 12 + _EXTRA.size or start[:4] != b"\x1f\x8b\x08\x04":
        return 0, 0
    name, size, inode, last_stamp = _EXTRA.unpack_from(start, 12)
    return (inode, last_stamp) if (name, size) == (b"Cv", _EXTRA.size - 4) else (0, 0)


def _replace_invalid(error: UnicodeError) -> tuple[str, int]:
    """One replacement for every invalid byte, as Go's encoding/json writes it."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\\ufffd", error.start + 1


codecs.register_error("go-json", _replace_invalid)


def escape(data: bytes) -> bytes:
    """The inside of JSON strings; newlines are left as they are, to be split at."""
    special = set(data.translate(None, _PLAIN))
    if not special:
        return data
    if 0x5C in special:
        data = data.replace(b"\\", b"\\\\")
    for byte in special:
        replacement = _ESCAPES.get(byte)
        if replacement is not None:
            data = data.replace(bytes((byte,)), replacement)
    if max(special) >= 0x80:
        for separator, replacement in _LINE_SEPARATORS:
            data = data.replace(separator, replacement)
        data = data.decode("utf-8", "go-json").encode("utf-8")
    return data


class Format(Protocol):
    """``stamp`` is Unix nanoseconds. ``room()`` is asked before each block, and may rotate: a block ends with the line
    that fills the file, as docker does it."""

    def lines(self, stream: str, data: bytes, stamp: int, room: "Callable[[], int]") -> "Iterator[bytes]":
        """Blocks to be written for ``data``, whole lines."""

    def piece(self, stream: str, data: bytes, stamp: int) -> bytes:
        """A part of a line that goes on, or was never ended."""

    def count(self, block: bytes) -> int:
        """How many lines a block holds."""

    def intact(self, fd: int, size: int) -> int:
        """How many of a file's ``size`` bytes are whole entries: a crash may have cut the last one short."""


class JsonLines:
    """``{"log":"...\\n","stream":"stdout","time":"RFC 3339, ns"}``; ``attrs`` is a JSON object to be put into each."""

    def __init__(self, attrs: bytes = b"") -> None:
        self._attrs = b',"attrs":' + attrs if attrs else b""
        self._second = -1
        self._text = b""

    def lines(self, stream: str, data: bytes, stamp: int, room: "Callable[[], int]") -> "Iterator[bytes]":
        end = b'\\n"' + self._rest(stream, stamp)
        block = b'{"log":"' + escape(data[:-1]).replace(b"\n", end + b'{"log":"') + end
        position, length = 0, len(block)
        while position < length:
            full_at = position + max(0, room() - 1)
            cut = block.find(b"\n", full_at) + 1 or length
            yield block if cut - position == length else block[position:cut]
            position = cut

    def piece(self, stream: str, data: bytes, stamp: int) -> bytes:
        return b'{"log":"' + escape(data) + b'"' + self._rest(stream, stamp)

    def count(self, block: bytes) -> int:
        return block.count(b"\n")

    def intact(self, fd: int, size: int) -> int:
        while size > 0:
            start = max(0, size - _BLOCK)
            at = os.pread(fd, size - start, start).rfind(b"\n")
            if at >= 0:
                return start + at + 1
            size = start
        return 0

    def _rest(self, stream: str, stamp: int) -> bytes:
        second, nanoseconds = divmod(stamp, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        fraction = (b".%09d" % nanoseconds).rstrip(b"0") if nanoseconds else b""
        return b',"stream":"%s"%s,"time":"%s%sZ"}\n' % (stream.encode(), self._attrs, self._text, fraction)


class Records:
    """Length, stream and flags, time, the bytes as they came, length: many lines a record."""

    def lines(self, stream: str, data: bytes, stamp: int, room: "Callable[[], int]") -> "Iterator[bytes]":
        position, length = 0, len(data)
        while position < length:
            full_at = position + max(0, room() - RECORD_EXTRA - 1)
            cut = data.find(b"\n", full_at) + 1 or length
            yield self._record(STREAMS[stream], data[position:cut], stamp)
            position = cut

    def piece(self, stream: str, data: bytes, stamp: int) -> bytes:
        return self._record(STREAMS[stream] | PIECE, data, stamp)

    def count(self, block: bytes) -> int:
        return block.count(b"\n", RECORD_HEAD.size, -RECORD_TAIL.size) or 1

    def intact(self, fd: int, size: int) -> int:
        if size >= RECORD_EXTRA:
            (last,) = RECORD_TAIL.unpack(os.pread(fd, RECORD_TAIL.size, size - RECORD_TAIL.size))
            if self._whole(fd, size - 2 * RECORD_TAIL.size - last, size):
                return size
        position = 0
        while position + RECORD_EXTRA <= size:
            (length,) = RECORD_TAIL.unpack(os.pread(fd, RECORD_TAIL.size, position))
            if not self._whole(fd, position, min(size, position + length + 2 * RECORD_TAIL.size)):
                break
            position += length + 2 * RECORD_TAIL.size
        return position

    @staticmethod
    def _whole(fd: int, start: int, end: int) -> bool:
        """Whether a record begins at ``start`` and ends at ``end``."""
        length = end - start - 2 * RECORD_TAIL.size
        if start < 0 or length < RECORD_HEAD.size - RECORD_TAIL.size:
            return False
        ends = [os.pread(fd, RECORD_TAIL.size, at) for at in (start, end - RECORD_TAIL.size)]
        return ends == [RECORD_TAIL.pack(length)] * 2

    def _record(self, kind: int, data: bytes, stamp: int) -> bytes:
        size = RECORD_HEAD.size - RECORD_TAIL.size + len(data)
        return RECORD_HEAD.pack(size, kind, stamp) + data + RECORD_TAIL.pack(size)
