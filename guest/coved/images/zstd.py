"""zstd (RFC 8878) by libzstd, which every Debian system has: Python itself has it from 3.14 on."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from coved.errors import EngineError

_CONTINUE, _END = 0, 2  # ZSTD_EndDirective


class ZstdError(Exception):
    """The data is damaged."""


class _Input(ctypes.Structure):
    _fields_ = [("src", ctypes.c_char_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t)]


class _Output(ctypes.Structure):
    _fields_ = [("dst", ctypes.c_void_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t)]


class Decompressor:
    """One frame, with the interface of bz2's. The library takes no window of more than 128 MiB unless it is told to."""

    def __init__(self) -> None:
        self.eof = False
        self.unused_data = b""
        self.unconsumed_tail = b""
        self._library = _library()
        self._context = self._library.ZSTD_createDCtx()
        if not self._context:
            raise MemoryError

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """At most ``max_length`` bytes; what of ``data`` was not looked at is in ``unconsumed_tail``, and behind the
        frame's end in ``unused_data``. Raises ZstdError."""
        buffer = ctypes.create_string_buffer(max_length)
        source = _Input(data, len(data), 0)
        target = _Output(ctypes.addressof(buffer), max_length, 0)
        # The lock of the interpreter is not held meanwhile.
        code = self._library.ZSTD_decompressStream(self._context, ctypes.byref(target), ctypes.byref(source))
        if self._library.ZSTD_isError(code):
            raise ZstdError(self._library.ZSTD_getErrorName(code).decode())
        rest = data[source.pos :]
        self.eof = code == 0
        self.unused_data, self.unconsumed_tail = (rest, b"") if self.eof else (b"", rest)
        return ctypes.string_at(buffer, target.pos)

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._library.ZSTD_freeDCtx(self._context)
            self._context = None


class Compressor:
    """One frame, at the library's own level, with the interface of zlib's."""

    def __init__(self) -> None:
        self._library = _library()
        self._context = self._library.ZSTD_createCCtx()
        if not self._context:
            raise MemoryError
        self._buffer = ctypes.create_string_buffer(1 << 17)

    def compress(self, data: bytes) -> bytes:
        return self._step(data, _CONTINUE)

    def flush(self) -> bytes:
        return self._step(b"", _END)

    def _step(self, data: bytes, directive: int) -> bytes:
        source, pieces = _Input(data, len(data), 0), []
        while True:
            target = _Output(ctypes.addressof(self._buffer), len(self._buffer), 0)
            left = self._library.ZSTD_compressStream2(
                self._context, ctypes.byref(target), ctypes.byref(source), directive
            )
            if self._library.ZSTD_isError(left):
                raise ZstdError(self._library.ZSTD_getErrorName(left).decode())
            pieces.append(ctypes.string_at(self._buffer, target.pos))
            if left == 0 if directive == _END else source.pos == source.size:
                return b"".join(pieces)

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._library.ZSTD_freeCCtx(self._context)
            self._context = None


@functools.cache
def _library() -> Any:
    try:
        library = ctypes.CDLL("libzstd.so.1")
    except OSError as error:
        raise EngineError(f"zstd needs libzstd, which cannot be loaded: {error}") from None
    library.ZSTD_createDCtx.restype = ctypes.c_void_p
    library.ZSTD_freeDCtx.argtypes = [ctypes.c_void_p]
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    library.ZSTD_decompressStream.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Output), ctypes.POINTER(_Input)]
    library.ZSTD_createCCtx.restype = ctypes.c_void_p
    library.ZSTD_freeCCtx.argtypes = [ctypes.c_void_p]
    library.ZSTD_compressStream2.restype = ctypes.c_size_t
    library.ZSTD_compressStream2.argtypes = [
        ctypes.c_void_p, ctypes.POINTER(_Output), ctypes.POINTER(_Input), ctypes.c_int,
    ]  # fmt: skip
    library.ZSTD_isError.argtypes = [ctypes.c_size_t]
    library.ZSTD_isError.restype = ctypes.c_uint
    library.ZSTD_getErrorName.argtypes = [ctypes.c_size_t]
    library.ZSTD_getErrorName.restype = ctypes.c_char_p
    return library
