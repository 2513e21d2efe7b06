"""Whole messages out of a stream of bytes."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from coved.shares.pump import MARK

from cove.share.ninep import wire
from cove.share.ninep.wire import HEADER

if TYPE_CHECKING:
    from cove.local.tls import Stream

_FIRST = 1 << 16
_ROOM = 1 << 16
"""Beyond one message, so that small ones come several at a time."""
_SPARE = 4
REST_S = 0.2
"""Without a request for so long, somebody who waits may be let do what they wait for."""
Connection: TypeAlias = "socket.socket | Stream"
_OPENING = b"\x08\x009P2000.L"


class Reader:
    """Messages of one connection, for one thread at a time. `msize` bounds them; what is no message is skipped up to the next mark.

    `rest`: called when nothing has come for a while.
    """

    def __init__(self, connection: Connection, rest: Callable[[], None] | None = None) -> None:
        self._connection = connection
        self._rest = rest
        self.msize = wire.MIN_MSIZE
        self._buffer = bytearray(_FIRST)
        self._view = memoryview(self._buffer)
        self._spare: list[bytearray] = []
        self._start = 0
        self._end = 0
        self._lost = False
        self.marked = False
        """A mark came before the message that was given last."""

    def next(self) -> tuple[int, int, memoryview] | None:
        """Type, tag and body of the next message; None at the end. The body is good until the next call. Raises `OSError`."""
        self.marked = False
        while True:
            if self._lost and not self._find_mark():
                if not self._fill(1):
                    return None
                continue
            have = self._end - self._start
            if have >= HEADER.size:
                size, kind, tag = HEADER.unpack_from(self._buffer, self._start)
                if not HEADER.size <= size <= self.msize or kind not in wire.KNOWN:
                    self._lost = True
                    continue
                if have >= size:
                    body = self._view[self._start + HEADER.size : self._start + size]
                    self._start += size
                    return kind, tag, body
                if self._opens_anew():
                    self._lost = True
                    continue
                missing = size - have
            else:
                missing = HEADER.size - have
            if not self._fill(missing):
                return None

    def give_away(self) -> bytearray:
        """The body that was given last stays good until its buffer, which is given back, is taken back: read on in another."""
        given = self._buffer
        self._renew(len(given))
        return given

    def take_back(self, buffer: bytearray) -> None:
        """From any thread."""
        if len(self._spare) < _SPARE:
            self._spare.append(buffer)

    def _renew(self, size: int) -> None:
        rest = bytes(self._view[self._start : self._end])
        spare = self._spare.pop() if self._spare else b""
        self._buffer = spare if isinstance(spare, bytearray) and len(spare) == size else bytearray(max(size, len(rest)))
        self._view = memoryview(self._buffer)
        self._buffer[: len(rest)] = rest
        self._start, self._end = 0, len(rest)

    def _fill(self, missing: int) -> bool:
        """Read on; False at the end."""
        if self._start == self._end:
            self._start = self._end = 0
        if self._end + missing > len(self._buffer):
            wanted = self._end - self._start + missing
            if len(self._buffer) < wanted or (len(self._buffer) < self.msize + _ROOM and missing > _FIRST):
                self._renew(self.msize + _ROOM)
            else:
                rest = bytes(self._view[self._start : self._end])
                self._buffer[: len(rest)] = rest
                self._start, self._end = 0, len(rest)
        if self._rest is not None and not _comes(self._connection):
            self._rest()
        count = self._connection.recv_into(self._view[self._end :])
        self._end += count
        return count > 0

    def _find_mark(self) -> bool:
        place = self._buffer.find(MARK, self._start, self._end)
        if place >= 0:
            self._start = place + len(MARK)
            self._lost = False
            self.marked = True
            return True
        self._start = max(self._start, self._end - len(MARK) + 1)  # half a mark may have come
        return False

    def _opens_anew(self) -> bool:
        """Half a message, and then a session's opening: whoever sent the half is no more."""
        tail = bytes(self._view[max(self._start, self._end - 29) : self._end])
        return len(tail) == 29 and tail.startswith(MARK) and tail.endswith(_OPENING) and tail[12] == wire.T.VERSION


def _comes(connection: Connection) -> bool:
    if isinstance(connection, socket.socket):
        return bool(select.select([connection], [], [], REST_S)[0])
    return connection.comes(REST_S)
