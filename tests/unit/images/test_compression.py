import bz2
import ctypes
import gzip
import io
import lzma
import os
from collections.abc import Callable

import pytest
from coved.errors import InvalidParameter
from coved.images.compression import DecompressedStream, HashedStream

CONTENT = os.urandom(300_000) + b"a" * 3_000_000


def zstd(data: bytes) -> bytes:
    """One frame with a checksum, as zstd(1) makes them."""
    library = ctypes.CDLL("libzstd.so.1")
    for name in ("ZSTD_createCCtx", "ZSTD_compressBound", "ZSTD_compress2"):
        getattr(library, name).restype = ctypes.c_size_t
    context, size = ctypes.c_void_p(library.ZSTD_createCCtx()), ctypes.c_size_t(len(data))
    library.ZSTD_CCtx_setParameter(context, 201, 1)
    room = ctypes.create_string_buffer(library.ZSTD_compressBound(size))
    made = library.ZSTD_compress2(context, room, ctypes.c_size_t(len(room)), ctypes.c_char_p(data), size)
    library.ZSTD_freeCCtx(context)
    return room.raw[:made]


COMPRESSIONS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, bz2.compress, lzma.compress, zstd]


def read_all(stream: DecompressedStream, size: int = 100_000) -> bytes:
    data = b""
    while chunk := stream.read(size):
        assert len(chunk) <= size
        data += chunk
    return data


class Dribble(io.BytesIO):
    """Gives what it has in small pieces, as a network does."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 7, 7) if size and size > 0 else 7)


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_content_comes_out_as_it_went_in(compress: Callable[[bytes], bytes]) -> None:
    assert read_all(DecompressedStream(io.BytesIO(compress(CONTENT)))) == CONTENT
    assert read_all(DecompressedStream(Dribble(compress(CONTENT[:50_000])))) == CONTENT[:50_000]


@pytest.mark.parametrize("compress", COMPRESSIONS[1:])
def test_several_members_and_padding(compress: Callable[[bytes], bytes]) -> None:
    data = compress(b"one") + compress(b"two") + bytes(1000)
    assert read_all(DecompressedStream(io.BytesIO(data))) == b"onetwo"


@pytest.mark.parametrize("compress", COMPRESSIONS[1:])
def test_damage_is_told(compress: Callable[[bytes], bytes]) -> None:
    data = compress(CONTENT)
    with pytest.raises(InvalidParameter, match="damaged"):
        read_all(DecompressedStream(io.BytesIO(data[:-20])))
    middle = len(data) // 2
    with pytest.raises(InvalidParameter, match="damaged"):
        read_all(DecompressedStream(io.BytesIO(data[:middle] + bytes(100) + data[middle + 100 :])))


def test_empty_stream() -> None:
    assert DecompressedStream(io.BytesIO()).read(10) == b""


def test_digest_is_of_everything() -> None:
    stream = HashedStream(io.BytesIO(b"abc"))
    stream.read(1)
    stream.drain()
    assert stream.digest() == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_stream_does_not_say_how_much_memory_it_takes() -> None:
    filters = [
        {"id": lzma.FILTER_LZMA2, "dict_size": 256 << 20, "mode": lzma.MODE_FAST, "mf": lzma.MF_HC3, "nice_len": 16}
    ]
    data = lzma.compress(b"small", filters=filters)
    with pytest.raises(InvalidParameter, match="compression"):
        read_all(DecompressedStream(io.BytesIO(data)))
