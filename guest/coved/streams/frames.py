"""Frames of the streams' wire, which host and guest share. Both take what arrives for hostile.

A frame is a kind (1 byte), the number of a stream (4) and the length of what follows (2), big-endian. Bytes of zero between frames mean
nothing. The host begins every connection, and may begin it anew at any time, with a `HELLO` of 16 random bytes; the guest forgets all
streams and answers with the same bytes, and what the host reads before that answer belongs to nobody. So many zeros precede a connection's
first `HELLO` as fill up whatever frame an earlier host was killed in.

=========  =============================================================================================
`HELLO`    stream 0; the 16 bytes
`OPEN`     the host asks for a stream to the unix socket whose path follows, by a number that it has not used; to a port of this
           system when it is `tcp:PORT` or `udp:PORT` instead (`coved.streams.inside`)
`OPENED`   the guest's answer; or else `RESET`, with the reason
`DATA`     bytes, never more than the other side has room for: `WINDOW` at first, and what it grants
`CREDIT`   room for so many more bytes (4 bytes)
`END`      nothing more will come; the stream is over when both sides have said so
`RESET`    the stream is over at once; what was sent before still arrives. Of stream 0: the guest closes this connection, because
           another has come in its place
`SERVE`    stream 0; the host has a service for whoever connects to the unix socket that the guest makes of the path: each such
           connection is a stream that the guest opens by `OPEN` with that path and a number from `GUEST` on, and nobody answers
=========  =============================================================================================
"""

from __future__ import annotations

import struct
from typing import NamedTuple

HELLO, OPEN, OPENED, DATA, CREDIT, END, RESET, SERVE = range(1, 9)
GUEST = 1 << 31
HEADER = struct.Struct("!BIH")
COUNT = struct.Struct("!I")
NONCE_SIZE = 16
MAX_DATA = (32 << 10) - HEADER.size
"""Bytes of a frame's payload: Linux's virtio_console takes 32 KiB in one write."""
WINDOW = 512 << 10
"""Bytes that one side may send of a stream before the other has taken any."""
GRANT = WINDOW // 4
"""Bytes taken before they are granted again."""


PADDING = bytes(HEADER.size + MAX_DATA)


class FrameError(Exception):
    """What was received is no frame, so nothing after it can be trusted to be one."""


class Frame(NamedTuple):
    kind: int
    stream: int
    payload: bytes


def frame(kind: int, stream: int, payload: bytes = b"") -> bytes:
    """`payload` has at most `MAX_DATA` bytes."""
    return HEADER.pack(kind, stream, len(payload)) + payload


def credit(stream: int, count: int) -> bytes:
    return frame(CREDIT, stream, COUNT.pack(count))


def granted(payload: bytes) -> int:
    """The bytes that a `CREDIT` grants. Raises `FrameError`."""
    if len(payload) != COUNT.size:
        raise FrameError("a credit is not four bytes")
    (count,) = COUNT.unpack(payload)
    return int(count)


class FrameDecoder:
    """Cuts what was received into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now. Raises `FrameError`."""
        data = self._rest + data if self._rest else data
        frames, begin = [], 0
        while len(data) - begin >= HEADER.size:
            if not data[begin]:
                data, begin = data[begin:].lstrip(b"\0"), 0
                continue
            kind, stream, length = HEADER.unpack_from(data, begin)
            if kind > SERVE or length > MAX_DATA:
                raise FrameError(f"a frame of kind {kind} and {length} bytes")
            end = begin + HEADER.size + length
            if end > len(data):
                break
            frames.append(Frame(kind, stream, data[begin + HEADER.size : end]))
            begin = end
        self._rest = data[begin:]
        return frames

    def reset(self) -> None:
        """Forget an unfinished frame."""
        self._rest = b""
