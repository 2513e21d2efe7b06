"""One call on a connection, seen as HTTP/2 sees it: headers, messages, trailers, and how much of each side may be on its way."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from coved.grpc.status import Code, GrpcError, Metadata, Status, of_trailers

if TYPE_CHECKING:
    from coved.grpc.connection import Connection

STALL_S = 600.0
"""How long a peer may take nothing of what it is sent."""
CANCEL = 8
"""HTTP/2's error code (RFC 9113, 7)."""
_PREFIX = struct.Struct(">BI")
_BURST = 256 * 1024
"""Bytes that one call sends before others have their turn."""


class Stream:
    """Made by a connection. Messages are bytes here; at most a window of them waits for whoever receives."""

    def __init__(self, connection: Connection, id: int, *, client: bool, window: int, limit: int) -> None:
        """``client``: the peer is the server, whose end is the call's."""
        self._connection = connection
        self._client = client
        self.id = id
        self._limit = limit
        self._window = window
        self.request: Metadata = ()
        """What a server was sent first."""
        self.response: Metadata | None = None
        """What a client was answered first."""
        self._trailers: Metadata = ()
        self._buffer = bytearray()
        self._messages: deque[bytes] = deque()
        self._owed = 0
        """Bytes that were taken, and that the peer does not know of yet."""
        self._held = 0
        """Bytes that came, and are yet to be taken."""
        self.ended = False
        """The peer sends nothing any more."""
        self.closed = False
        """Nor do we."""
        self._error: GrpcError | None = None
        """Why the call is over, whatever it was doing."""
        self._bad: GrpcError | None = None
        """What is wrong with what comes; something can still be said to it."""
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._turn = asyncio.Lock()
        """Of who sends: messages do not come between one another's parts."""
        self.on_reset: Callable[[], object] = lambda: None
        """Called when the peer gives the call up, or has gone."""

    # -- what the connection tells

    def headers(self, found: Metadata) -> None:
        self.response = found
        self._changed.set()

    def trailers(self, found: Metadata) -> None:
        self._trailers = found

    def data(self, data: bytes, counted: int) -> None:
        """``counted`` bytes of the window, with what pads the frame."""
        if self._error is not None or self._bad is not None or self.ended:
            return
        self._held += counted
        self._buffer += data
        at = 0
        with memoryview(self._buffer) as view:
            while len(view) - at >= _PREFIX.size:
                compressed, size = _PREFIX.unpack_from(view, at)
                if compressed:
                    self._bad = GrpcError(Code.UNIMPLEMENTED, "compressed messages are not understood")
                    break
                if size > self._limit:
                    text = f"received message larger than max ({size} vs. {self._limit})"
                    self._bad = GrpcError(Code.RESOURCE_EXHAUSTED, text)
                    break
                if len(view) - at - _PREFIX.size < size:
                    break
                at += _PREFIX.size
                self._messages.append(bytes(view[at : at + size]))
                at += size
        if at:
            del self._buffer[:at]
        if self._messages or self._bad is not None:
            self._changed.set()
        else:  # a message may be larger than the window
            self._take(self._held)

    def end(self) -> None:
        self.ended = True
        if self._buffer and self._bad is None:
            self._bad = GrpcError(Code.INTERNAL, "the peer ended the call within a message")
        self._wake()

    def room(self) -> None:
        """The peer takes more."""
        self._room.set()

    def fail(self, error: GrpcError, *, reset: bool = False) -> None:
        """The call is over, whatever it was doing; ``reset`` tells the peer."""
        if reset:
            self.reset(CANCEL)
        self._buffer.clear()
        if not self.ended and self._error is None:
            self._error = error
        self.closed = True
        self._wake()
        self.on_reset()

    def _wake(self) -> None:
        self._changed.set()
        self._room.set()

    # -- receiving

    def _take(self, count: int) -> None:
        self._held -= count
        self._owed += count
        if self._owed >= self._window // 2 and not self.ended:
            self._connection.allow(self.id, self._owed)
            self._owed = 0

    async def receive(self) -> bytes | None:
        """The next message; None when there will be no more. Raises ``GrpcError`` when the call, or the connection, broke."""
        while not self._messages:
            if (error := self._error or self._bad) is not None:
                raise error
            if self.ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        self._take(min(len(message) + _PREFIX.size, self._held) if self._messages else self._held)
        return message

    async def several(self) -> list[bytes]:
        """All messages that wait to be taken, one at least; none when there will be no more. Raises ``GrpcError``."""
        first = await self.receive()
        found = [] if first is None else [first]
        found += self._messages
        self._messages.clear()
        self._take(self._held)
        return found

    async def responded(self) -> Metadata:
        """What the server answered before its messages. Raises ``GrpcError``."""
        while self.response is None:
            if self._error is not None:
                raise self._error
            if self.ended:
                return ()
            self._changed.clear()
            await self._changed.wait()
        return self.response

    @property
    def status(self) -> Status:
        """How the server ended the call, once it has."""
        http = dict(self.response or ()).get(":status", "")
        found = self._trailers or self.response or ()
        return of_trailers(found, http)

    # -- sending

    async def send(self, message: bytes, *, end: bool = False) -> None:
        """Returns when the message is on its way. Raises ``GrpcError`` when the peer does not take it any more."""
        await self._send(_PREFIX.pack(0, len(message)) + message, end)

    async def send_all(self, messages: Iterable[bytes]) -> None:
        """The same for some that are small, at once."""
        await self._send(b"".join(_PREFIX.pack(0, len(each)) + each for each in messages), False)

    async def finish(self) -> None:
        """There will be no more messages from this side."""
        if not self.closed and not (self.ended and self._client):
            await self._send(b"", True)

    async def _send(self, data: bytes, end: bool) -> None:
        async with self._turn:
            await self._push(memoryview(data), end)

    async def _push(self, view: memoryview, end: bool) -> None:
        while True:
            burst = 0
            while True:
                self.must_be_open()
                sent, done = self._connection.push(self.id, view, end)
                view = view[sent:]
                burst += sent
                if done:
                    self.closed = end
                    break
                if not sent or burst >= _BURST:
                    break
            if burst or done:
                await self._connection.flush()
            if done:
                return
            if not burst:
                self._room.clear()
                try:
                    async with asyncio.timeout(STALL_S):
                        await self._room.wait()
                except TimeoutError:
                    self.fail(GrpcError(Code.UNAVAILABLE, "the peer takes nothing of what it is sent"), reset=True)

    def must_be_open(self) -> None:
        if self._error is not None:
            raise self._error
        if self.closed or (self.ended and self._client):
            raise GrpcError(Code.CANCELLED, "the call has ended")

    def reset(self, code: int) -> None:
        """Gives the call up."""
        self.closed = True
        self._connection.reset(self.id, code)
