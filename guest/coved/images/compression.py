"""Archives as they come: plain, gzip, zstd, bzip2 or xz, told apart by their first bytes."""

import hashlib
import zlib
from collections.abc import Callable
from functools import partial
from typing import Protocol

from coved.errors import InvalidParameter
from coved.images.documents import OCI_LAYER

_CHUNK = 256 * 1024
_XZ_MEMORY = 128 << 20
"""Bytes that a stream's dictionary may take."""

_GZIP = b"\x1f\x8b"
_BZIP2 = b"BZh"
_XZ = b"\xfd7zXZ\x00"
_ZSTD = b"\x28\xb5\x2f\xfd"


class Source(Protocol):
    """A blocking byte stream; b"" is its end, and fewer bytes than asked for are not."""

    def read(self, size: int, /) -> bytes: ...


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class DecompressedStream:
    """The bytes inside a compressed or plain stream, at most 256 KiB in memory at a time beside its dictionary (128 MiB).

    ``read`` raises ``InvalidParameter`` for damaged data and for a compression that this Python has not.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._head = b""
        while len(self._head) < len(_XZ):
            chunk = source.read(_CHUNK)
            if not chunk:
                break
            self._head += chunk
        self._make, self._errors = _decompressor_for(self._head)
        self._decompressor = self._make() if self._make else None
        self._input = self._head if self._make else b""

    def read(self, size: int) -> bytes:
        try:
            return self._read(min(size, _CHUNK))
        except OSError as error:
            # bz2 raises one without a number for damaged data; the others are the source's.
            if error.errno is not None:
                raise
            raise InvalidParameter(f"the archive's compression is damaged: {error}") from None
        except self._errors as error:
            raise InvalidParameter(f"the archive's compression is damaged: {error}") from None

    def _read(self, size: int) -> bytes:
        if self._make is None:
            head, self._head = self._head[:size], self._head[size:]
            return head or self._source.read(size)
        while self._decompressor is not None:
            if self._decompressor.eof:
                self._next_member()
                continue
            data = self._decompressor.decompress(self._input, size)
            self._input = getattr(self._decompressor, "unconsumed_tail", b"")
            if data:
                return data
            if not self._decompressor.eof and not self._input:
                self._input = self._source.read(_CHUNK)
                if not self._input:
                    raise EOFError("it ends too early")
        return b""

    def _next_member(self) -> None:
        """gzip, bzip2 and xz files may be several, one after another; zero padding ends them."""
        assert self._make is not None and self._decompressor is not None
        rest = self._decompressor.unused_data or self._source.read(_CHUNK)
        while rest and not rest.strip(b"\0"):
            rest = self._source.read(_CHUNK)
        self._decompressor = self._make() if rest else None
        self._input = rest


class PeekedStream:
    """A stream of which the first bytes are known in advance: ``head``, six bytes or all that there are."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rest = b""
        while len(self._rest) < len(_XZ) and (chunk := source.read(_CHUNK)):
            self._rest += chunk
        self.head = self._rest[: len(_XZ)]

    def read(self, size: int) -> bytes:
        head, self._rest = self._rest[:size], self._rest[size:]
        return head or self._source.read(size)


def media_type(head: bytes) -> str:
    """OCI's media type of a layer that begins like this (layer.md), "" when it is compressed in a way that OCI has no name for."""
    if head.startswith((_BZIP2, _XZ)):
        return ""
    return OCI_LAYER + ("+gzip" if head.startswith(_GZIP) else "+zstd" if head.startswith(_ZSTD) else "")


class HashedStream:
    """Passes a stream on and computes its SHA-256."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        return data

    def drain(self) -> None:
        """Reads to the end: a digest is of the whole stream, padding after the archive's end included."""
        while self.read(_CHUNK):
            pass

    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


class _Gzip:
    """zlib with the interface of bz2 and lzma."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    @property
    def unconsumed_tail(self) -> bytes:
        return self._zlib.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(data, max_length)


def _decompressor_for(head: bytes) -> tuple[Callable[[], _Decompressor] | None, tuple[type[Exception], ...]]:
    """What decompresses a stream that begins like this, and the errors that it raises for damaged data."""
    if head.startswith(_GZIP):
        return _Gzip, (EOFError, zlib.error)
    if head.startswith(_BZIP2):
        import bz2  # rare

        return bz2.BZ2Decompressor, (EOFError,)
    if head.startswith(_XZ):
        import lzma  # rare

        # xz(1) -9 takes 65 MiB; without a limit the stream itself says how much, up to 4 GiB.
        return partial(lzma.LZMADecompressor, memlimit=_XZ_MEMORY), (EOFError, lzma.LZMAError)
    if head.startswith(_ZSTD):
        from coved.images import zstd  # what it takes to call a library

        return zstd.Decompressor, (EOFError, zstd.ZstdError)
    return None, ()
