"""tar archives of strangers, read as they come, into nothing: an image's, and its layers' in it.

Sizes, numbers and lengths are bounded, and what is damaged is an error: Python's tarfile takes a wrong header in the middle for the end.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, Protocol, cast

from cove.errors import CoveError

MAX_BYTES = 64 << 30
"""Of all layers, decompressed."""
MAX_HEADER = 1 << 20
"""Of a header that says more of a file (pax, GNU's long names)."""
MAX_GLOBAL_HEADER = 1 << 16
MAX_GLOBAL_FIELDS = 1000
MAX_PATH = 4096
MAX_XZ_MEMORY = 256 << 20
"""The most that `xz -9` asks for is a quarter of it."""
MAX_READS_AFTER_END = 100
BUFFER = 1 << 18
_ENDS = ("EOFHeaderError", "EmptyHeaderError")
"""What tarfile raises where an archive ends in order; the library tells of their common base alone."""
_MORE_HOLES = 482
"""Where a header of GNU's old sparse files says that others follow with the rest of the map."""
_MAGIC = slice(257, 262)
"""Where a header says that it is one: the name before it, at the very front, may begin as JSON does."""
_HOLES = "a file with holes (sparse) whose map may be of any length"
_GLOBAL = (tarfile.XGLTYPE,)
_MORE = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class Damaged(Exception):
    """No archive, or one that does not go on as it should."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Hostile(CoveError):
    """An image that is more than can be read."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the image cannot be read: {what}", "nothing was looked at; it may have been made to do harm")


class _Strict(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Strict:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _MORE and found.size > (MAX_GLOBAL_HEADER if found.type in _GLOBAL else MAX_HEADER):
            raise Hostile(f"a header of {found.size} bytes")
        if found.type == tarfile.GNUTYPE_SPARSE and buf[_MORE_HOLES]:
            raise Hostile(_HOLES)
        return found

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile, /) -> _Strict:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if type(error).__name__ in _ENDS:
                raise
            raise Damaged(str(error)) from error
        except RecursionError:
            raise Hostile("headers without end") from None

    def _proc_gnusparse_10(
        self, next: tarfile.TarInfo, pax_headers: Mapping[str, str], tarfile: tarfile.TarFile
    ) -> None:
        # tarfile's own, which reads a map of any length into memory; a test sees that this one is still asked.
        raise Hostile(_HOLES)


class Stream:
    """Pieces as a file that is read once."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class Layer:
    """A layer's archive, decompressed; `digest` is its diff id once all of it has been read."""

    def __init__(self, source: Readable, counted: Callable[[int], None]) -> None:
        self._source = source
        self._counted = counted
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int, /) -> bytes:
        try:
            data = self._source.read(size)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, ValueError) as error:
            raise Damaged(str(error)) from error
        except Exception as error:
            if type(error).__name__ == "ZstdError":  # of whichever module there is
                raise Damaged(str(error)) from error
            raise
        self._hash.update(data)
        self._counted(len(data))
        return data

    def drain(self) -> None:
        while self.read(BUFFER):
            pass


class _Ending:
    """A file that raises `Damaged` for who goes on and on reading after its end: tarfile passes over a file of 2^80 bytes in small steps,
    whether there is something or not.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._after = 0

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        if not data:
            self._after += 1
            if self._after > MAX_READS_AFTER_END:
                raise Damaged("it ends in the middle of a file")
        return data


def members(source: Readable) -> Iterator[tuple[tarfile.TarInfo, Callable[[int], bytes]]]:
    """Each member, and a way to read so many bytes of it before the next is asked for. Raises `Damaged`, `Hostile`."""
    try:
        with tarfile.open(
            fileobj=cast("IO[bytes]", _Ending(source)),
            mode="r|",
            bufsize=BUFFER,
            tarinfo=_Strict,
            errors="surrogateescape",
        ) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # or it would keep them all
                if len(archive.pax_headers) > MAX_GLOBAL_FIELDS:
                    raise Hostile("too many global headers")
                yield member, _reading(archive, member)
    except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
        raise Damaged(str(error)) from error


def _reading(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[int], bytes]:
    file: IO[bytes] | None = None

    def read(size: int) -> bytes:
        nonlocal file
        try:
            if file is None:
                file = archive.extractfile(member)
            return file.read(size) if file is not None else b""
        except tarfile.TarError as error:
            raise Damaged(str(error)) from error

    return read


class _Member:
    """A member as a file, its first bytes looked at already."""

    def __init__(self, first: bytes, read: Callable[[int], bytes]) -> None:
        self._first = first
        self._read = read

    def read(self, size: int = -1, /) -> bytes:
        if self._first:
            size = len(self._first) if size < 0 else size
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._read(size if size >= 0 else BUFFER)


def layer(read: Callable[[int], bytes], counted: Callable[[int], None]) -> Layer | None:
    """The member of an image's archive as a layer, however it is compressed; None for the documents that are in there, too."""
    first = read(512)
    if not first or (first[:1] in b"{[" and first[_MAGIC] != b"ustar"):
        return None
    source = _Member(first, read)
    for magic, opened in _COMPRESSIONS:
        if first.startswith(magic):
            return Layer(opened(source), counted)
    return Layer(source, counted)


class _Xz:
    """lzma's own file of them has no bound: a layer may ask for 4 GiB to be decompressed."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._stream = self._next()

    def _next(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        data = b""
        while not data:
            if self._stream.eof:  # others may follow it, and zeros before them
                packed = self._stream.unused_data.lstrip(b"\0")
                while not packed and (piece := self._source.read(io.DEFAULT_BUFFER_SIZE)):
                    packed = piece.lstrip(b"\0")
                if not packed:
                    break
                self._stream = self._next()
            else:
                packed = self._source.read(io.DEFAULT_BUFFER_SIZE) if self._stream.needs_input else b""
                if self._stream.needs_input and not packed:
                    raise EOFError("it ends before its end")
            data = self._stream.decompress(packed, size)
        return data


def _zstd(source: Any) -> Readable:
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return cast("Readable", zstd.ZstdFile(source))


_COMPRESSIONS: tuple[tuple[bytes, Callable[[Any], Readable]], ...] = (
    (b"\x1f\x8b", lambda source: gzip.GzipFile(fileobj=source)),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", _Xz),
)
